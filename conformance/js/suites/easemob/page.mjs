// The five operations of the user's page, its samples verbatim.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { chatClient } from '../../lib/easemob/chat-client.mjs';
import { idsOf, peerOf, textsOf } from '../../lib/easemob/device.mjs';
import { BOTH, imported } from './shared.mjs';

const samples = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../samples/easemob');

const PEER = 0;
const GROUP = 1;

/** Runs a sample with its variables; gives what it logs, and throws what it warns of. */
function run(device, name, variables) {
  const source = readFileSync(path.join(samples, `${name}.js`), 'utf8');
  return new Promise((resolve, reject) => {
    const console = {
      log: (label, result) => {
        assert.equal(label, 'test:success:');
        resolve(result);
      },
      warn: (label, error) => {
        assert.equal(label, 'test:error:');
        reject(error);
      },
    };
    const sample = new Function('ChatClient', 'console', ...Object.keys(variables), source);
    sample(chatClient(device), console, ...Object.values(variables));
  });
}

function summary(device, { data }) {
  return data.channel_infos.map(({ channel_id: channel, lastMessage, unread_num: unread }) => [
    peerOf(device.conn.appKey, channel),
    lastMessage.msg,
    unread,
  ]);
}

export default function page(ring) {
  ring.suite('easemob-page', scenario => {
    scenario('the conversation list, page by page', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const [mary, anna] = await t.people('mary', 'anna');
      const group = await t.rest.group(jerry.id, [tom.id]);
      await tom.say(mary, 'to mary');
      await jerry.say(tom.id, 'one');
      await jerry.say(tom.id, 'two');
      await tom.say(anna, 'to anna');
      await jerry.sayIn(group, 'to all');
      const pageOf = pageNum => run(tom, 'list', { pageSize: 3, pageNum });
      assert.deepEqual(summary(tom, await pageOf(1)), [
        [group, 'to all', 1],
        [anna, 'to anna', 0],
        [jerry.id, 'two', 2],
      ]);
      assert.deepEqual(summary(tom, await pageOf(2)), [[mary, 'to mary', 0]]);
      assert.deepEqual(summary(tom, await pageOf(3)), []);
      const [whole] = (await run(jerry, 'list', { pageSize: 20, pageNum: 1 })).data.channel_infos;
      assert.equal(whole.channel_id, `${t.app.appKey}_${group}@conference.easemob.com`);
      assert.equal(whole.lastMessage.from, jerry.id);
      assert.equal(whole.lastMessage.to, group);
      // What the receiver sees is the newest message's place in the history, too.
      const { messages } = await jerry.history(group, { chatType: 'groupChat' });
      assert.equal(whole.lastMessage.id, messages[0].id);
    }, BOTH);

    scenario('the conversation list without pages: the newest ten of seven days', async t => {
      const tom = await t.open('tom');
      const names = await t.people(...Array.from({ length: 12 }, (_, index) => `peer${index}`));
      const day = 86_400_000;
      const now = Date.now();
      await imported(t, tom.id, t.name('long-ago'), 'old', now - 7 * day - 60_000);
      await Promise.all(names.map((name, index) => imported(t, tom.id, name, `m${index}`, now - (20 - index) * 1000)));
      const { data } = await chatClient(tom).getInstance().chatManager.fetchConversationsFromServer();
      assert.deepEqual(
        summary(tom, { data }),
        names.map((name, index) => [name, `m${index}`, 0]).slice(2).reverse(),
      );
    }, BOTH);

    scenario('history, page by page, newest first', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const ids = await tom.sayAll(jerry.id, 'one', 'two', 'three', 'four', 'five');
      const variables = { convId: jerry.id, chatType: PEER, pageSize: 2, startMsgId: '' };
      const first = await run(tom, 'history', variables);
      assert.deepEqual(textsOf(first.messages), ['five', 'four']);
      assert.deepEqual(idsOf(first.messages), [ids[4], ids[3]]);
      const second = await run(tom, 'history', { ...variables, startMsgId: first.cursor });
      assert.deepEqual(textsOf(second.messages), ['three', 'two']);
      const third = await run(tom, 'history', { ...variables, startMsgId: second.messages[1].id });
      assert.deepEqual(textsOf(third.messages), ['one']);
      assert.equal(third.isLast, true);
      const atJerry = await run(jerry, 'history', { ...variables, convId: tom.id, pageSize: 50 });
      assert.deepEqual(idsOf(atJerry.messages), [...ids].reverse());
      assert.equal(atJerry.isLast, true);
    }, BOTH);

    scenario('history of a group', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const group = await t.rest.group(tom.id, [jerry.id]);
      await tom.sayIn(group, 'one');
      await jerry.sayIn(group, 'two');
      const found = await run(jerry, 'history', { convId: group, chatType: GROUP, pageSize: 50, startMsgId: '' });
      assert.deepEqual(textsOf(found.messages), ['two', 'one']);
      assert.deepEqual(found.messages.map(({ from, to, chatType }) => [from, to, chatType]), [
        [jerry.id, group, 'groupChat'],
        [tom.id, group, 'groupChat'],
      ]);
    }, BOTH);

    scenario('removing messages by their ids, for the caller alone', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const ids = await tom.sayAll(jerry.id, 'one', 'two', 'three');
      await run(jerry, 'remove-by-ids', { convId: tom.id, convType: PEER, msgIds: [ids[0], ids[2]] });
      assert.deepEqual(await jerry.texts(tom.id), ['two']);
      assert.deepEqual(await tom.texts(jerry.id), ['one', 'two', 'three']);
      assert.equal((await jerry.entry(tom.id)).text, 'two');
      assert.equal((await tom.entry(jerry.id)).text, 'three');
    }, BOTH);

    scenario('removing messages before a time, for the caller alone', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const at = Date.now() - 60_000;
      for (const [index, text] of ['one', 'two', 'three'].entries()) {
        await imported(t, tom.id, jerry.id, text, at + index);
      }
      await run(jerry, 'remove-by-time', { convId: tom.id, convType: PEER, timestamp: at + 1 });
      assert.deepEqual(await jerry.texts(tom.id), ['two', 'three']);
      assert.deepEqual(await tom.texts(jerry.id), ['one', 'two', 'three']);
    }, BOTH);

    for (const [convType, label] of [
      [PEER, 'a single chat'],
      [GROUP, 'a group'],
    ]) {
      scenario(`deleting ${label} with its messages, for everybody`, async t => {
        const [tom, jerry] = await t.openAll('tom', 'jerry');
        const group = convType === GROUP;
        const chatType = group ? 'groupChat' : 'singleChat';
        const id = group ? await t.rest.group(tom.id, [jerry.id]) : undefined;
        await tom.say(id ?? jerry.id, 'one', { chatType });
        const result = await run(jerry, 'remove-conversation', { convId: id ?? tom.id, convType, isDeleteMessage: true });
        assert.equal(result.data.result, 'ok');
        assert.deepEqual(await tom.peers(), []);
        assert.deepEqual(await jerry.peers(), []);
        assert.deepEqual(await tom.texts(id ?? jerry.id, { chatType }), []);
        assert.deepEqual(await jerry.texts(id ?? tom.id, { chatType }), []);
      }, BOTH);

      scenario(`deleting ${label} without its messages`, async t => {
        const [tom, jerry] = await t.openAll('tom', 'jerry');
        const group = convType === GROUP;
        const chatType = group ? 'groupChat' : 'singleChat';
        const id = group ? await t.rest.group(tom.id, [jerry.id]) : undefined;
        await tom.say(id ?? jerry.id, 'one', { chatType });
        await run(jerry, 'remove-conversation', { convId: id ?? tom.id, convType, isDeleteMessage: false });
        assert.deepEqual(await tom.peers(), []);
        assert.deepEqual(await jerry.peers(), []);
        assert.deepEqual(await tom.texts(id ?? jerry.id, { chatType }), ['one']);
        assert.deepEqual(await jerry.texts(id ?? tom.id, { chatType }), ['one']);
        await tom.say(id ?? jerry.id, 'two', { chatType });
        assert.equal((await jerry.entry(id ?? tom.id)).text, 'two');
        assert.equal((await tom.entry(id ?? jerry.id)).text, 'two');
      }, BOTH);
    }

    scenario('what the page says cannot be asked for is refused', async t => {
      const tom = await t.open('tom');
      for (const [pageSize, pageNum] of [
        [21, 1],
        [1000, 1],
      ]) {
        const refusal = run(tom, 'list', { pageSize, pageNum });
        const error = await t.refused(refusal, 17);
        assert.ok(error.message, 'says why');
      }
    }, BOTH);
  });
}
