// One app, two wires: the LeanCloud SDK and the Easemob SDK talk to each other.

import assert from 'node:assert/strict';

import { Scenario as LeanCloudScenario } from '../../lib/scenario.mjs';

/** A device of the LeanCloud SDK in the same app. */
async function leanCloud(t, label) {
  const other = new LeanCloudScenario({ version: '5', server: t.server, app: t.app });
  other.pending = t.pending;
  const client = await other.open(label, { id: t.name(label) });
  return { other, client };
}

export default function crossover(ring) {
  ring.suite('easemob-crossover', scenario => {
    scenario('a text in both directions, in one conversation', async t => {
      const tom = await t.open('tom');
      const { other, client: jerry } = await leanCloud(t, 'jerry');
      try {
        const conversation = await jerry.createConversation({ members: [tom.id], unique: true });
        const sent = await conversation.send(other.text(jerry, 'from LeanCloud'));
        const received = await t.message(tom, 'from LeanCloud');
        assert.deepEqual([received.from, received.to, received.chatType], [jerry.id, tom.id, 'singleChat']);
        assert.equal(received.time, Number(sent.timestamp));
        await tom.say(jerry.id, 'from Easemob');
        const [answer, where] = await other.message(jerry, 'from Easemob');
        assert.equal(answer.from, tom.id);
        assert.equal(where.id, conversation.id);
        assert.deepEqual(await tom.texts(jerry.id), ['from LeanCloud', 'from Easemob']);
        const messages = await conversation.queryMessages();
        assert.deepEqual(messages.map(({ text }) => text), ['from LeanCloud', 'from Easemob']);
        const entry = await tom.entry(jerry.id);
        assert.deepEqual([entry.text, entry.unread_num], ['from Easemob', 1]);
      } finally {
        await other.cleanUp();
      }
    });

    scenario('a group', async t => {
      const tom = await t.open('tom');
      const { other, client: jerry } = await leanCloud(t, 'jerry');
      try {
        await t.people('jerry');
        const group = await t.rest.group(tom.id, [jerry.id]);
        await tom.sayIn(group, 'hello all');
        const [received, where] = await other.message(jerry, 'hello all');
        assert.equal(received.from, tom.id);
        await where.send(other.text(jerry, 'hello tom'));
        const answer = await t.message(tom, 'hello tom');
        assert.deepEqual([answer.from, answer.to, answer.chatType], [jerry.id, group, 'groupChat']);
      } finally {
        await other.cleanUp();
      }
    });

    scenario('recall and edit', async t => {
      const tom = await t.open('tom');
      const { other, client: jerry } = await leanCloud(t, 'jerry');
      try {
        const conversation = await jerry.createConversation({ members: [tom.id], unique: true });
        const first = await conversation.send(other.text(jerry, 'hullo'));
        const hullo = await t.message(tom, 'hullo');
        await conversation.update(first, other.text(jerry, 'hello'));
        const changed = await t.event(tom, 'onModifiedMessage');
        assert.deepEqual([changed.id, changed.msg], [hullo.id, 'hello']);
        await conversation.recall(first);
        assert.equal((await t.event(tom, 'onRecallMessage')).mid, hullo.id);
        assert.deepEqual(await tom.texts(jerry.id), []);
        const id = await tom.say(jerry.id, 'regret');
        await other.message(jerry, 'regret');
        await tom.conn.recallMessage({ mid: id, to: jerry.id, chatType: 'singleChat' });
        await other.event(jerry, 'messagerecall');
      } finally {
        await other.cleanUp();
      }
    });

    scenario('what one deletes for everybody is gone on both wires', async t => {
      const tom = await t.open('tom');
      const { other, client: jerry } = await leanCloud(t, 'jerry');
      try {
        const conversation = await jerry.createConversation({ members: [tom.id], unique: true });
        await conversation.send(other.text(jerry, 'one'));
        await t.message(tom, 'one');
        await tom.removeConversation(jerry.id, true);
        assert.deepEqual(await conversation.queryMessages(), []);
        assert.deepEqual(await tom.texts(jerry.id), []);
      } finally {
        await other.cleanUp();
      }
    });
  });
}
