// The page's JavaScript samples, verbatim, each in a process of its own.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { packageFolder } from '../lib/sdk.mjs';
import { rawRow } from './shared.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));

function start(t, name) {
  const sample = readFileSync(path.join(here, '../samples', `${name}.js`), 'utf8');
  const options = JSON.stringify({
    appId: t.app.id,
    appKey: t.app.key,
    server: t.version === '4' ? t.server.host : t.server.url,
  });
  const dir = mkdtempSync(path.join(os.tmpdir(), 'posthouse-sample-'));
  mkdirSync(path.join(dir, 'node_modules'));
  symlinkSync(packageFolder(t.version), path.join(dir, 'node_modules/leancloud-realtime'));
  const file = path.join(dir, 'sample.js');
  const front = `const AV = require('leancloud-realtime'); const realtime = new AV.Realtime(${options});`;
  writeFileSync(file, `${front}\n${sample}`);
  const child = spawn(process.execPath, ['--dns-result-order=ipv4first', file], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const run = { complaints: '' };
  child.stderr.setEncoding('utf8').on('data', text => {
    // SDK 5 warns of queries that it merged by itself; that is no complaint about the sample.
    run.complaints += text
      .split('\n')
      .filter(line => line.trim() && !/^Duplicated command \[.*\] is throttled\.$/.test(line.trim()))
      .join('\n');
  });
  run.stop = () => {
    child.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  };
  return run;
}

async function check(t, name, text, ttl) {
  const jerry = await t.open('jerry', { id: 'Jerry' });
  const william = await t.open('william', { id: 'William' });
  const sample = start(t, name);
  try {
    const received = t.until(`${name} is done or complains`, async () => {
      if (sample.complaints) throw new Error(sample.complaints);
      return t.seen(jerry, 'message').length && t.seen(william, 'message').length;
    });
    await received;
    const [message, conversation] = await t.message(jerry, text);
    const [atWilliam] = await t.message(william, text);
    assert.equal(message.from, 'Tom');
    assert.equal(message.id, atWilliam.id);
    assert.match(conversation.id, /^_tmp:/);
    assert.deepEqual([...conversation.members].sort(), ['Jerry', 'Tom', 'William']);
    const [invitation] = await t.event(jerry, 'invited');
    assert.equal(invitation.invitedBy, 'Tom');
    const row = await rawRow(t, jerry, conversation.id);
    assert.equal(row.ttl, ttl);
    assert.equal(row.temp, true);
    assert.equal(sample.complaints, '');
    return conversation.id;
  } finally {
    sample.stop();
  }
}

export default function page(ring) {
  ring.suite('page', scenario => {
    scenario('the first sample creates a temporary conversation for one day and sends', async t => {
      await check(t, 'create', '这里是临时对话', 86_400);
    });

    scenario('the second sample asks for an hour and sends', async t => {
      // The same members while alive are the same conversation, whose time to
      // live stays that of its creation: the sample runs with an app of its own.
      const app = await t.server.createApp(`page-${t.number}`);
      t.app = app;
      await t.until('the new app is known', async () => {
        try {
          await t.open('probe');
          return true;
        } catch {
          return false;
        }
      });
      await check(t, 'create-with-ttl', '这里是临时对话，一小时之后，这个对话就会消失', 3600);
    });

    scenario('the sample needs AV.TextMessage of the package', async t => {
      const { AV } = t.device();
      assert.equal(typeof AV.TextMessage, 'function');
      assert.equal(typeof AV.Realtime, 'function');
    });
  });
}
