// The main flows of an Easemob SDK in headless Chromium, on a page of another
// origin: `node easemob-browser.mjs --sdk easemob|agora-chat --dir DIR [--only PATTERN]`.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { bounded, launch, remoteDevice, servePage } from './lib/browser.mjs';
import { Rest } from './lib/easemob/rest.mjs';
import { browserBuild } from './lib/easemob/sdk.mjs';
import { SCENARIO_TIMEOUT_MS } from './lib/scenario.mjs';
import { Server } from './lib/server.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));

const { values: options } = parseArgs({
  options: {
    sdk: { type: 'string' },
    dir: { type: 'string' },
    only: { type: 'string' },
  },
});

// A PNG of one pixel.
const PIXEL = [
  ...Buffer.from(
    'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
    'base64',
  ),
];

const PAGE = { pageNum: 1, pageSize: 20 };

const scenarios = {
  async 'login with a password'({ open, rest, name }) {
    const user = name('anna');
    await rest.register({ username: user, password: 'secret' });
    const anna = await open(user, { credentials: { pwd: 'secret' } });
    await anna.wait('onConnected', {});
    assert.deepEqual(await anna.list(PAGE), []);
    const refused = await open(user, { credentials: { pwd: 'other' } }).then(
      () => undefined,
      error => error,
    );
    assert.match(refused.message, /"type":1,"message":"invalid password"/);
  },

  async 'send and receive'({ tom, jerry }) {
    const id = await tom.send({ type: 'txt', to: jerry.id, msg: '你好', ext: { n: 1 } });
    const received = await jerry.wait('onTextMessage', { msg: '你好' });
    assert.deepEqual([received.id, received.from, received.to, received.ext], [id, tom.id, jerry.id, { n: 1 }]);
    await jerry.send({ type: 'read', to: tom.id, id });
    assert.equal((await tom.wait('onReadMessage', {})).mid, id);
  },

  async 'the conversation list'({ tom, jerry, app }) {
    await tom.send({ type: 'txt', to: jerry.id, msg: 'one' });
    await tom.send({ type: 'txt', to: jerry.id, msg: 'two' });
    const expected = { channel: `${app.appKey}_${tom.id}@easemob.com`, unread: 2, text: 'two' };
    assert.deepEqual(await jerry.list(), [expected]);
    assert.deepEqual(await jerry.list(PAGE), [expected]);
    assert.deepEqual(await jerry.list({ pageNum: 2, pageSize: 20 }), []);
    assert.deepEqual(await jerry.byCursor(), [{ id: tom.id, unread: 2, text: 'two' }]);
    assert.equal((await jerry.refusal('list', [{ pageNum: 1, pageSize: 21 }])).type, 17);
    await jerry.send({ type: 'channel', to: tom.id });
    assert.deepEqual(await jerry.byCursor(), [{ id: tom.id, unread: 0, text: 'two' }]);
  },

  async 'history and one-way removal'({ tom, jerry }) {
    const ids = [];
    for (const msg of ['one', 'two', 'three']) ids.push(await tom.send({ type: 'txt', to: jerry.id, msg }));
    assert.deepEqual(await jerry.history(tom.id), ['one', 'two', 'three']);
    assert.deepEqual(await jerry.history(tom.id, { searchDirection: 'up', pageSize: 2 }), ['three', 'two']);
    await jerry.removeMessages(tom.id, { messageIds: [ids[0]] });
    assert.deepEqual(await jerry.history(tom.id), ['two', 'three']);
    await jerry.removeMessages(tom.id, { beforeTimeStamp: Date.now() + 60_000 });
    assert.deepEqual(await jerry.history(tom.id), []);
    assert.deepEqual(await jerry.list(PAGE), []);
    assert.deepEqual(await tom.history(jerry.id), ['one', 'two', 'three']);
  },

  async 'deletion for everybody, and other devices hear of it'({ tom, jerry, open }) {
    const other = await open(jerry.id);
    await tom.send({ type: 'txt', to: jerry.id, msg: 'one' });
    await jerry.removeConversation(tom.id, true);
    const event = await other.wait('onMultiDeviceEvent', { operation: 'deleteConversation' });
    assert.equal(event.conversationId, tom.id);
    for (const device of [tom, jerry]) assert.deepEqual(await device.list(PAGE), []);
    assert.deepEqual(await tom.history(jerry.id), []);
    assert.deepEqual(await jerry.history(tom.id), []);
  },

  async 'recall and edit'({ tom, jerry }) {
    const first = await tom.send({ type: 'txt', to: jerry.id, msg: 'hullo' });
    const second = await tom.send({ type: 'txt', to: jerry.id, msg: 'regret' });
    await jerry.wait('onTextMessage', { id: second });
    await tom.edit(first, jerry.id, 'hello');
    assert.equal((await jerry.wait('onModifiedMessage', { id: first })).msg, 'hello');
    await tom.recall(second, jerry.id);
    assert.equal((await jerry.wait('onRecallMessage', {})).mid, second);
    assert.deepEqual(await jerry.history(tom.id), ['hello']);
  },

  async 'an image is uploaded and shown'({ tom, jerry }) {
    await tom.sendImage(jerry.id, PIXEL);
    const received = await jerry.wait('onImageMessage', {});
    assert.equal(await jerry.widthOf(received.url), 1);
    assert.equal(await jerry.widthOf(received.thumb), 1);
    assert.deepEqual(await jerry.bytesOf(received.url), PIXEL);
  },

  async 'a group'({ tom, jerry }) {
    const group = await tom.createGroup([jerry.id]);
    await jerry.wait('onGroupEvent', { operation: 'directJoined', id: group });
    await jerry.send({ type: 'txt', chatType: 'groupChat', to: group, msg: 'here' });
    const received = await tom.wait('onTextMessage', { msg: 'here' });
    assert.deepEqual([received.chatType, received.to, received.from], ['groupChat', group, jerry.id]);
    assert.equal((await tom.refusal('send', [{ type: 'txt', chatType: 'groupChat', to: '123456789012', msg: 'x' }])).type, 605);
  },

  async 'away and back'({ tom, jerry, open }) {
    await jerry.wait('onConnected', {});
    await jerry.cut();
    await tom.send({ type: 'txt', to: jerry.id, msg: 'meanwhile' });
    await jerry.wait('onTextMessage', { msg: 'meanwhile' });
    await jerry.close();
    await tom.send({ type: 'txt', to: jerry.id, msg: 'later' });
    const fresh = await open(jerry.id);
    await fresh.wait('onTextMessage', { msg: 'later' });
    await tom.send({ type: 'txt', to: jerry.id, msg: 'last' });
    await fresh.wait('onTextMessage', { msg: 'last' });
    assert.equal(await fresh.seen('onTextMessage'), 1, 'and the message of before');
  },

  async 'the addresses come from the DNS document'({ open, rest, name, server }) {
    const user = name('anna');
    await rest.register(user);
    const anna = await open(user, { config: { appKey: rest.app.appKey, isHttpDNS: true }, dns: server.url });
    assert.deepEqual(await anna.list(PAGE), []);
  },
};

let serial = 0;

async function run(body, { browser, url, server, app, rest }) {
  serial += 1;
  const number = serial;
  const name = label => `${label}-${number}`;
  const contexts = [];
  const complaints = [];
  const config = {
    appKey: app.appKey,
    isHttpDNS: false,
    url: `${server.url.replace('http', 'ws')}/websocket`,
    apiUrl: server.url,
  };
  const open = async (user, more = {}) => {
    // Pages of one context share their storage, and with it the device id.
    const context = await browser.newContext();
    contexts.push(context);
    const page = await context.newPage();
    page.on('pageerror', error => complaints.push(error.message));
    await page.goto(url);
    const device = remoteDevice(page, user);
    const credentials = more.credentials ?? { accessToken: await rest.userToken(user) };
    await device.open({ config, user, ...more, credentials });
    return device;
  };
  const work = async () => {
    await rest.register(name('tom'), name('jerry'));
    const [tom, jerry] = await Promise.all([open(name('tom')), open(name('jerry'))]);
    await body({ tom, jerry, open, rest, name, app, server });
    assert.deepEqual(complaints, [], 'no exception in a page');
  };
  try {
    return await bounded(work, 2 * SCENARIO_TIMEOUT_MS, complaints);
  } finally {
    await Promise.all(contexts.map(context => context.close()));
  }
}

async function main() {
  const data = path.join(options.dir, 'data');
  mkdirSync(data, { recursive: true });
  const server = new Server({ dir: data });
  server.endWithProcess();
  let browser;
  let pages;
  try {
    const app = await server.createEasemobApp('conformance', {
      appKey: 'posthouse#conformance',
      clientId: 'id-of-conformance',
      clientSecret: 'secret-of-conformance',
    });
    await server.start();
    pages = await servePage({
      '/sdk.js': browserBuild(options.sdk),
      '/device.js': path.join(here, 'browser/easemob-device.js'),
    });
    browser = await launch();
    const url = `http://localhost:${pages.address().port}/`;
    const rest = new Rest(server, app);
    const pattern = options.only ? new RegExp(options.only) : undefined;
    for (const [scenario, body] of Object.entries(scenarios)) {
      if (pattern && !pattern.test(`easemob-browser / ${scenario}`)) continue;
      const error = await run(body, { browser, url, server, app, rest });
      process.send({
        sdk: options.sdk,
        suite: 'easemob-browser',
        scenario,
        outcome: error ? 'fail' : 'pass',
        reason: error && String(error.stack ?? error),
      });
    }
  } finally {
    await browser?.close();
    pages?.close();
    await server.stop();
  }
}

try {
  await main();
} catch (error) {
  process.send({ fatal: String(error.stack ?? error) });
  process.exitCode = 1;
} finally {
  process.removeAllListeners('disconnect');
  process.disconnect();
  setImmediate(() => process.exit());
}
