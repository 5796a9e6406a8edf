// What a scenario of the Easemob suites gets in hand.

import assert from 'node:assert/strict';

import { Device } from './device.mjs';
import { Rest } from './rest.mjs';

let serial = 0;

const always = () => true;

export class Scenario {
  constructor({ sdk, server, app }) {
    this.sdk = sdk;
    this.server = server;
    this.app = app;
    this.rest = new Rest(server, app);
    this.number = (serial += 1);
    this.devices = [];
    this.pending = new Set();
    this.users = new Map();
  }

  /** A user name that no other scenario uses. */
  name(label) {
    return `${label}-${this.number}`;
  }

  /** Registers users; gives their names. */
  async people(...labels) {
    const names = labels.map(label => this.name(label));
    const fresh = names.filter(name => !this.users.has(name));
    if (fresh.length > 0) {
      const registered = this.rest.register(...fresh);
      for (const name of fresh) this.users.set(name, registered);
    }
    await Promise.all(names.map(name => this.users.get(name)));
    return names;
  }

  /** A device that is not logged in. */
  device(user, { kind, deviceId = `d${(serial += 1)}`, ...options } = {}) {
    const device = new Device({
      sdk: this.sdk,
      // agora-chat reads `document`, which the bare surrounding does not have.
      kind: kind ?? (this.sdk === 'agora-chat' ? 'page' : 'bare'),
      user,
      deviceId,
      options: {
        appKey: this.app.appKey,
        url: `${this.server.url.replace('http', 'ws')}/websocket`,
        apiUrl: this.server.url,
        ...options,
      },
    });
    this.devices.push(device);
    return device;
  }

  /** A new device on which `label` is logged in with a token. */
  async open(label, options = {}) {
    const [user] = await this.people(label);
    const device = this.device(user, options);
    await device.open({ accessToken: await this.rest.userToken(user) });
    return device;
  }

  /** Opens one device for each label. */
  openAll(...labels) {
    return Promise.all(labels.map(label => this.open(label)));
  }

  /** The first event not yet taken for which `predicate` holds. */
  async event(device, name, predicate = always, what = name) {
    const [event] = await device.journal.next(name, predicate, `${what} at ${device.id}`, this.pending);
    return event;
  }

  /** A received text. */
  message(device, msg) {
    return this.event(device, 'message', message => message.msg === msg, `message "${msg}"`);
  }

  /** All events of that name which were not taken. */
  seen(device, name) {
    return device.journal.all(name).map(([event]) => event);
  }

  /** Messages not taken, barriers aside. */
  messages(device) {
    return this.seen(device, 'message').filter(({ action }) => !action?.startsWith('barrier-'));
  }

  /**
   * When it resolves, the device has what the server had for it before: a
   * command comes last, and it is neither in history nor in any list.
   */
  async barrier(device) {
    // Twice: queues that the login lists are pulled beside the one of the first command.
    for (let round = 0; round < 2; round += 1) {
      const action = `barrier-${(serial += 1)}`;
      await this.rest.send(this.name('barrier'), device.id, { type: 'cmd', body: { action } });
      await this.event(device, 'onCmdMessage', message => message.action === action, action);
    }
  }

  /** Repeats `attempt` until it gives something or the scenario is over. */
  async until(what, attempt) {
    const label = `until ${what}`;
    this.pending.add(label);
    for (;;) {
      const result = await attempt();
      if (result) {
        this.pending.delete(label);
        return result;
      }
      if (this.over) throw new Error('the scenario is over');
      await new Promise(resolve => setTimeout(resolve, 25));
    }
  }

  /** Asserts that the SDK refuses with an error of `type`; gives it. */
  async refused(promise, type) {
    let error;
    try {
      await promise;
    } catch (caught) {
      error = caught;
    }
    assert.ok(error, `refused with ${type} expected, but it succeeded`);
    assert.ok(!(error instanceof TypeError), `the SDK stumbled: ${error.stack}`);
    assert.equal(error.type, type, `refused with ${type} expected, got ${error.type}: ${error.message ?? error}`);
    return error;
  }

  cleanUp() {
    this.over = true;
    for (const device of this.devices) device.dispose();
  }
}
