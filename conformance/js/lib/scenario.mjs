// What a scenario gets in hand: devices of the official SDK that record every
// event and push, and assertions that name what they waited for.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

import { loadSdk } from './sdk.mjs';

const require = createRequire(import.meta.url);
const { PresencePlugin } = require('../../../clients/leancloud-presence');

export const SCENARIO_TIMEOUT_MS = 8_000;

/** Collects the scenarios of all suites in the order of their definition. */
export class Ring {
  /** `defaults`: what a scenario has that says nothing else. */
  constructor(defaults = { sdk: ['5', '4'] }) {
    this.defaults = { timeout: SCENARIO_TIMEOUT_MS, ...defaults };
    this.scenarios = [];
  }

  suite(suite, define) {
    define((scenario, body, options = {}) =>
      this.scenarios.push({ suite, scenario, body, ...this.defaults, ...options }),
    );
  }
}

let serial = 0;

/** Everything that happened to an emitter, each entry to be taken once. */
export class Journal {
  constructor() {
    this.entries = [];
    this.waiting = new Set();
  }

  add(kind, args) {
    this.entries.push({ kind, args });
    for (const wake of [...this.waiting]) wake();
  }

  take(kind, predicate) {
    const index = this.entries.findIndex(
      entry => entry.kind === kind && predicate(...entry.args),
    );
    return index === -1 ? undefined : this.entries.splice(index, 1)[0].args;
  }

  all(kind) {
    return this.entries.filter(entry => entry.kind === kind).map(entry => entry.args);
  }

  /**
   * The arguments of the first entry of `kind` for which `predicate` holds,
   * now or later. `pending` names what is waited for until then.
   */
  next(kind, predicate, what, pending) {
    return new Promise(resolve => {
      const look = () => {
        const args = this.take(kind, predicate);
        if (!args) return false;
        pending.delete(what);
        this.waiting.delete(look);
        resolve(args);
        return true;
      };
      if (look()) return;
      pending.add(what);
      this.waiting.add(look);
    });
  }
}

const journals = new WeakMap();

function journalOf(emitter) {
  let journal = journals.get(emitter);
  if (!journal) {
    journal = new Journal();
    journals.set(emitter, journal);
    const emit = emitter.emit;
    emitter.emit = function recordAndEmit(event, ...args) {
      journal.add(event, args);
      return emit.call(this, event, ...args);
    };
  }
  return journal;
}

const PUSH = Symbol('push');

// Sees all that the SDK hands out, before any listener of the scenario.
const recorder = {
  name: 'conformance-recorder',
  onIMClientCreate(client) {
    const journal = journalOf(client);
    const dispatch = client._dispatchCommand;
    client._dispatchCommand = function recordAndDispatch(command) {
      journal.add(PUSH, [command]);
      return dispatch.call(this, command);
    };
  },
  onConversationCreate(conversation) {
    journalOf(conversation);
  },
};

const always = () => true;

export class Scenario {
  constructor({ version, server, app, tls }) {
    this.version = version;
    this.server = server;
    this.app = app;
    this.tls = tls;
    this.number = (serial += 1);
    this.clients = [];
    this.pending = new Set();
  }

  /** A client id that no other scenario uses. */
  name(label) {
    return `${label}-${this.number}`;
  }

  /** A new device: its own SDK instance, socket and device id. */
  device(options = {}) {
    const AV = loadSdk(this.version);
    const realtime = new AV.Realtime({
      appId: this.app.id,
      appKey: this.app.key,
      server: this.version === '4' ? this.server.host : this.server.url,
      // Version 4 speaks only TLS; version 5 is told that this server is plain.
      ssl: Boolean(this.tls),
      ...options,
      plugins: [recorder, PresencePlugin, ...(options.plugins?.(AV) ?? [])],
    });
    // Without a listener nothing is lost: every entry is in the journal.
    journalOf(realtime);
    return { AV, realtime };
  }

  /** Opens `label` on a new device, or on `device`. */
  async open(label, { device = this.device(), id = this.name(label), ...options } = {}) {
    const client = await device.realtime.createIMClient(id, options);
    client.AV = device.AV;
    client.realtime = device.realtime;
    this.clients.push(client);
    return client;
  }

  text(client, text) {
    return new client.AV.TextMessage(text);
  }

  /** Sends a command of the SDK's own protobuf classes and gives the answer. */
  raw(client, command) {
    return client._send(new client.AV.Protocals.GenericCommand(command));
  }

  json(client, value) {
    return new client.AV.Protocals.JsonObjectMessage({ data: JSON.stringify(value) });
  }

  /** The first event not yet taken for which `predicate` holds: its arguments. */
  event(emitter, name, predicate = always, what = String(name)) {
    return journalOf(emitter).next(name, predicate, `event ${what}`, this.pending);
  }

  /** The first push command not yet taken for which `predicate` holds. */
  async push(client, predicate, what = 'a push') {
    const [command] = await journalOf(client).next(PUSH, predicate, what, this.pending);
    return command;
  }

  /** A received message with this text, and its conversation. */
  message(client, text, conversation) {
    return this.event(
      client,
      'message',
      (message, where) =>
        message.text === text && (!conversation || where.id === conversation.id),
      `message "${text}" at ${client.id}`,
    );
  }

  /** Arguments of all events of that name which were not taken. */
  seen(emitter, name) {
    return journalOf(emitter).all(name);
  }

  pushes(client) {
    return journalOf(client)
      .all(PUSH)
      .map(([command]) => command);
  }

  /**
   * When it resolves, the client has seen every push that the server had put
   * on its socket before.
   */
  async barrier(client) {
    for (let round = 0; round < 2; round += 1) {
      await client.ping([client.id, `barrier-${(serial += 1)}`]);
      await new Promise(resolve => setImmediate(resolve));
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
      await new Promise(resolve => setTimeout(resolve, 50));
    }
  }

  /** Asserts that `promise` is refused with one of `codes`. */
  async refused(promise, ...codes) {
    let error;
    try {
      await promise;
    } catch (caught) {
      error = caught;
    }
    assert.ok(error, `refused with ${codes.join(' or ')} expected, but it succeeded`);
    assert.ok(
      codes.includes(error.code),
      `refused with ${codes.join(' or ')} expected, got ${error.code} (${error.name}: ${error.message})`,
    );
    return error;
  }

  /** The socket dies without a word, and the SDK stays away. */
  lose(client) {
    const connection = client._connection;
    connection._ws.terminate();
    connection.pause();
  }

  /** The SDK comes back at once after `lose`. */
  async comeBack(client) {
    const connection = client._connection;
    connection.resume();
    connection.retry();
    await this.event(client, 'reconnect');
  }

  /** The socket dies and the SDK reconnects. */
  async drop(client) {
    this.lose(client);
    await this.comeBack(client);
  }

  async cleanUp() {
    this.over = true;
    await Promise.all(
      this.clients.map(async client => {
        const connection = client._connection;
        try {
          if (connection.is('connected')) {
            await Promise.race([
              client.close(),
              new Promise(resolve => setTimeout(resolve, 500)),
            ]);
          }
        } catch {
          // What a scenario left behind is no finding of its own.
        }
        if (connection.can('close')) connection.close();
      }),
    );
  }
}

/** Runs one scenario; gives `undefined` or the reason of its failure. */
export async function play({ body, timeout }, scenario) {
  let timer;
  try {
    await Promise.race([
      body(scenario),
      new Promise((resolve, reject) => {
        timer = setTimeout(() => {
          const waits = [...scenario.pending].join('; ') || 'an answer';
          reject(new Error(`no end within ${timeout} ms, waiting for: ${waits}`));
        }, timeout);
      }),
    ]);
    return undefined;
  } catch (error) {
    return error;
  } finally {
    clearTimeout(timer);
    await scenario.cleanUp();
  }
}

/** Scenarios of one run that may be tried again; more than these are no accident. */
const SECOND_TRIES_MAX = 3;

/**
 * Runs the scenarios of one SDK version and tells of each. The SDKs race with
 * themselves: a query they sent for an invitation may overwrite the change that
 * came after it. A second try tells that from a fault of the server, is said
 * aloud, and is bounded.
 */
export class Player {
  constructor({ sdk, server, tell, log = [] }) {
    this.sdk = sdk;
    this.server = server;
    this.tell = tell;
    this.log = log;
    this.secondTries = SECOND_TRIES_MAX;
  }

  /** Plays `entry` with what `fresh` gives; true when the server lives on. */
  async play(entry, fresh) {
    let error = await play(entry, fresh());
    if (error && this.server.alive && this.secondTries > 0) {
      this.secondTries -= 1;
      this.tell({ again: `sdk ${this.sdk} ${entry.suite} / ${entry.scenario}: ${error.message ?? error}` });
      error = await play(entry, fresh());
    }
    const alive = this.server.alive;
    const crash = alive ? '' : `\nserver: ${this.log.slice(-10).join('\n        ')}`;
    this.tell({
      sdk: this.sdk,
      suite: entry.suite,
      scenario: entry.scenario,
      outcome: error ? 'fail' : 'pass',
      reason: error && `${error.stack ?? error}${crash}`,
    });
    return alive;
  }
}
