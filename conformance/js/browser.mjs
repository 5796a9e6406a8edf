// The main flows with the SDK's browser build in headless Chromium, on a page
// of another origin: `node browser.mjs --sdk 5|4 --dir DIR [--only PATTERN] [--cert F --key F]`.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { bounded, launch, remoteDevice, servePage } from './lib/browser.mjs';
import { SCENARIO_TIMEOUT_MS } from './lib/scenario.mjs';
import { browserBuild } from './lib/sdk.mjs';
import { Server } from './lib/server.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));

const { values: options } = parseArgs({
  options: {
    sdk: { type: 'string' },
    dir: { type: 'string' },
    only: { type: 'string' },
    cert: { type: 'string' },
    key: { type: 'string' },
  },
});

const scenarios = {
  async 'open, temporary conversation, send and receive'({ tom, jerry }) {
    const cid = await tom.createTemporary([jerry.id], 3600);
    assert.match(cid, /^_tmp:/);
    const invited = await jerry.wait('invited', { cid });
    assert.equal(invited.invitedBy, tom.id);
    const id = await tom.send(cid, '这里是临时对话');
    const received = await jerry.wait('message', { cid });
    assert.equal(received.id, id);
    assert.equal(received.text, '这里是临时对话');
    assert.equal(received.from, tom.id);
    await jerry.send(cid, 'answer');
    assert.equal((await tom.wait('message', { cid })).text, 'answer');
  },

  async 'history'({ tom, jerry }) {
    const cid = await tom.createOrdinary([jerry.id]);
    for (const text of ['one', 'two', 'three']) await tom.send(cid, text);
    assert.deepEqual(await jerry.history(cid), ['one', 'two', 'three']);
  },

  async 'binary content'({ tom, jerry }) {
    const cid = await tom.createTemporary([jerry.id]);
    await tom.sendBytes(cid, [0, 1, 254, 255]);
    await jerry.wait('message', { cid });
    assert.deepEqual(await jerry.lastBytes(cid), [0, 1, 254, 255]);
  },

  async 'modify and recall'({ tom, jerry }) {
    const cid = await tom.createTemporary([jerry.id]);
    const first = await tom.send(cid, 'hullo');
    const second = await tom.send(cid, 'regret');
    await jerry.wait('message', { id: second });
    await tom.update(cid, first, 'hello');
    assert.equal((await jerry.wait('messageupdate', { id: first })).text, 'hello');
    await tom.recall(cid, second);
    assert.equal((await jerry.wait('messagerecall', { id: second })).recalled, true);
    assert.deepEqual(await jerry.history(cid), ['hello', 'recalled']);
  },

  async 'unread after being away, cleared by reading'({ tom, jerry, open }) {
    await jerry.close();
    const cid = await tom.createTemporary([jerry.id]);
    await tom.send(cid, 'one');
    await tom.send(cid, 'two');
    const again = await open(jerry.id);
    await again.wait('unread', { cid, count: 2 });
    const other = await open(jerry.id);
    await other.wait('unread', { cid, count: 2 });
    await again.read(cid);
    await other.wait('unread', { cid, count: 0 });
  },

  async 'reconnect after the socket is closed'({ tom, jerry }) {
    const cid = await tom.createOrdinary([jerry.id]);
    await tom.send(cid, 'before');
    await jerry.wait('message', { text: 'before' });
    await jerry.drop();
    await tom.send(cid, 'after');
    await jerry.wait('message', { text: 'after' });
  },

  async "members' online status through the plugin"({ tom, jerry, open }) {
    const cid = await tom.createTemporary([jerry.id]);
    const present = await tom.subscribe(cid);
    assert.deepEqual([...present.online].sort(), [jerry.id, tom.id].sort());
    await jerry.close();
    await tom.wait('presence', { offline: jerry.id, online: '' });
    await open(jerry.id);
    await tom.wait('presence', { online: jerry.id, offline: '' });
  },
};

let serial = 0;

async function run(body, { browser, url, config }) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const complaints = [];
  try {
    const open = async id => {
      const page = await context.newPage();
      page.on('pageerror', error => complaints.push(error.message));
      await page.goto(url);
      const device = remoteDevice(page, id);
      await device.open(config, id);
      return device;
    };
    serial += 1;
    const number = serial;
    const work = async () => {
      const tom = await open(`tom-${number}`);
      const jerry = await open(`jerry-${number}`);
      await body({ tom, jerry, open });
    };
    return await bounded(work, 2 * SCENARIO_TIMEOUT_MS, complaints);
  } finally {
    await context.close();
  }
}

async function main() {
  const data = path.join(options.dir, 'data');
  mkdirSync(data, { recursive: true });
  const tls = options.cert ? { cert: options.cert, key: options.key } : undefined;
  const server = new Server({ dir: data, tls });
  server.endWithProcess();
  let browser;
  let pages;
  try {
    const app = await server.createApp('conformance');
    await server.setApp(app.name, 'will_grace_seconds=1');
    await server.start();
    pages = await servePage({
      '/sdk.js': browserBuild(options.sdk),
      '/presence.js': path.join(here, '../../clients/leancloud-presence/index.js'),
      '/device.js': path.join(here, 'browser/device.js'),
    });
    browser = await launch();
    const config = {
      appId: app.id,
      appKey: app.key,
      server: options.sdk === '4' ? server.host : server.url,
      ssl: Boolean(tls),
    };
    const url = `http://localhost:${pages.address().port}/`;
    const pattern = options.only ? new RegExp(options.only) : undefined;
    for (const [scenario, body] of Object.entries(scenarios)) {
      if (pattern && !pattern.test(`browser / ${scenario}`)) continue;
      const error = await run(body, { browser, url, config });
      process.send({
        sdk: options.sdk,
        suite: 'browser',
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
