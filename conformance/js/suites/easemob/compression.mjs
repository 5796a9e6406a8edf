// The SDK compresses what it sends where the app accepts that.

import assert from 'node:assert/strict';

import { talk } from './shared.mjs';

const COMPRESSED = { settings: { uplink_compression: true } };

/** Counts the bytes that the SDK hands to its socket. */
function count(device) {
  const { sock } = device.conn;
  const counter = { bytes: 0 };
  const { send } = sock;
  sock.send = function countedSend(data) {
    counter.bytes += data.byteLength;
    return send.call(this, data);
  };
  return counter;
}

export default function compression(ring) {
  ring.suite('easemob-compression', scenario => {
    scenario('messages that repeat themselves are small, and arrive', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const counter = count(tom);
      const line = '这里是很长的一句话，一再重复。'.repeat(20);
      const texts = Array.from({ length: 40 }, (_, index) => `${index} ${line}`);
      for (const text of texts) await tom.say(jerry.id, text, { ext: { n: 1, list: ['a', 'b'] } });
      await t.message(jerry, texts.at(-1));
      assert.deepEqual((await jerry.texts(tom.id)), texts);
      const plain = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
      assert.ok(counter.bytes < plain / 4, `${counter.bytes} bytes for ${plain}`);
    }, COMPRESSED);

    scenario('messages that do not', async t => {
      const { tom, jerry, at, chatType } = await talk(t, 'group');
      const { randomBytes } = await import('node:crypto');
      const texts = Array.from({ length: 20 }, () => randomBytes(2_000).toString('base64'));
      await Promise.all(texts.map(text => tom.say(at(tom), text, { chatType })));
      await t.message(jerry, texts.at(-1));
      assert.deepEqual(await jerry.texts(at(jerry), { chatType }), texts);
    }, COMPRESSED);

    scenario('a new connection begins anew', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await t.event(tom, 'onConnected');
      for (let round = 0; round < 3; round += 1) {
        await tom.say(jerry.id, `round ${round}: the same words as before`);
        await t.message(jerry, `round ${round}: the same words as before`);
        tom.cut();
        await t.event(tom, 'onConnected');
      }
      await tom.say(jerry.id, 'the same words as before');
      assert.equal((await jerry.texts(tom.id)).length, 4);
      await tom.removeMessages(jerry.id, { beforeTimeStamp: Date.now() + 1_000 });
      assert.deepEqual(await tom.texts(jerry.id), []);
    }, COMPRESSED);
  });
}
