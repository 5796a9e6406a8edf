// Every row of the page's feature table, for both kinds of conversation.

import assert from 'node:assert/strict';

import { KINDS, create, seenBy, sendTexts, textsOf } from './shared.mjs';

/** Commands that the SDK's temporary conversations have no method for. */
const REFUSED = {
  'add a member': { op: 'add', m: ['mary'] },
  'join oneself': { op: 'add', m: ['tom'] },
  'remove a member': { op: 'remove', m: ['jerry'] },
  quit: { op: 'remove', m: ['tom'] },
  mute: { op: 'mute' },
  unmute: { op: 'unmute' },
  'update attributes': { op: 'update', attr: { name: 'other' } },
};

export default function featureTable(ring) {
  ring.suite('feature table', scenario => {
    for (const kind of KINDS) {
      const row = (name, body) => scenario(`${kind}: ${name}`, body);

      row('send and receive messages', async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        const [sent] = await sendTexts(t, tom, conversation, 'hello');
        const [received, where] = await t.message(jerry, 'hello');
        assert.equal(received.id, sent.id);
        assert.equal(received.from, tom.id);
        assert.equal(Number(received.timestamp), Number(sent.timestamp));
        assert.equal(where.id, conversation.id);
        await where.send(t.text(jerry, 'hello back'));
        await t.message(tom, 'hello back');
      });

      row('query message history', async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        await sendTexts(t, tom, conversation, 'one', 'two', 'three');
        const atJerry = await seenBy(jerry, conversation);
        assert.deepEqual(textsOf(await atJerry.queryMessages()), ['one', 'two', 'three']);
      });

      row('receive offline messages', async t => {
        const tom = await t.open('tom');
        const conversation = await create(t, kind, tom, 'jerry');
        await sendTexts(t, tom, conversation, 'while you were away', 'and this');
        const jerry = await t.open('jerry');
        const [conversations] = await t.event(jerry, 'unreadmessagescountupdate');
        const mine = conversations.find(({ id }) => id === conversation.id);
        assert.equal(mine.unreadMessagesCount, 2);
        assert.equal(mine.lastMessage.text, 'and this');
        assert.deepEqual(textsOf(await mine.queryMessages()), ['while you were away', 'and this']);
      });

      row('modify a message', async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        const [sent] = await sendTexts(t, tom, conversation, 'hullo');
        await t.message(jerry, 'hullo');
        await conversation.update(sent, t.text(tom, 'hello'));
        const [changed] = await t.event(jerry, 'messageupdate', message => message.id === sent.id);
        assert.equal(changed.text, 'hello');
        assert.deepEqual(textsOf(await conversation.queryMessages()), ['hello']);
      });

      row('recall a message', async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        const [sent] = await sendTexts(t, tom, conversation, 'regret');
        await t.message(jerry, 'regret');
        await conversation.recall(sent);
        const [recalled] = await t.event(jerry, 'messagerecall', message => message.id === sent.id);
        assert.ok(recalled instanceof jerry.AV.RecalledMessage);
        const [inHistory] = await conversation.queryMessages();
        assert.ok(inHistory instanceof tom.AV.RecalledMessage);
      });

      row('query online members', async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry', 'william');
        const online = await tom.ping(conversation.members);
        assert.deepEqual([...online].sort(), [jerry.id, tom.id].sort());
      });

      row('read receipts', async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        const message = await conversation.send(t.text(tom, 'seen?'), { receipt: true });
        const [, atJerry] = await t.message(jerry, 'seen?');
        await t.event(conversation, 'lastdeliveredatupdate');
        assert.equal(message.status, tom.AV.MessageStatus.DELIVERED);
        await atJerry.read();
        await t.event(conversation, 'lastreadatupdate');
        assert.ok(conversation.lastReadAt >= message.timestamp);
      });

      row("subscribe to members' online status", async t => {
        const tom = await t.open('tom');
        const conversation = await create(t, kind, tom, 'jerry');
        const jerryId = t.name('jerry');
        const present = await conversation.subscribePresence();
        assert.deepEqual(present, { online: [tom.id], offline: [jerryId] });
        const jerry = await t.open('jerry');
        const [came] = await t.event(conversation, 'presence');
        assert.deepEqual(came, { online: [jerryId], offline: [] });
        await jerry.close();
        const [went] = await t.event(conversation, 'presence');
        assert.deepEqual(went, { online: [], offline: [jerryId] });
      });

      row('count members', async t => {
        const tom = await t.open('tom');
        const conversation = await create(t, kind, tom, 'jerry', 'william');
        assert.equal(await conversation.count(), 3);
      });

      row('will messages', async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        await conversation.send(t.text(tom, 'I am gone'), { will: true });
        t.lose(tom);
        const [message] = await t.message(jerry, 'I am gone');
        assert.equal(message.from, tom.id);
      });
    }

    for (const [name, { op, m, attr }] of Object.entries(REFUSED)) {
      scenario(`temporary: refuses to ${name}`, async t => {
        const tom = await t.open('tom');
        const conversation = await create(t, 'temporary', tom, 'jerry');
        const convMessage = { cid: conversation.id };
        if (m) convMessage.m = m.map(label => t.name(label));
        if (attr) convMessage.attr = t.json(tom, attr);
        await t.refused(t.raw(tom, { cmd: 'conv', op, convMessage }), 4314);
        const again = await tom.getConversation(conversation.id, true);
        assert.deepEqual([...again.members].sort(), [t.name('jerry'), tom.id].sort());
      });
    }

    scenario('ordinary: add and remove members', async t => {
      const tom = await t.open('tom');
      const mary = await t.open('mary');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const added = await conversation.add([mary.id]);
      assert.deepEqual(added.successfulClientIds, [mary.id]);
      assert.equal(await conversation.count(), 3);
      await t.event(mary, 'invited');
      const removed = await conversation.remove([mary.id]);
      assert.deepEqual(removed.successfulClientIds, [mary.id]);
      await t.event(mary, 'kicked');
      assert.equal(await conversation.count(), 2);
    });

    scenario('ordinary: mute and unmute', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await conversation.mute();
      await conversation.fetch();
      assert.deepEqual(conversation.mutedMembers, [tom.id]);
      await conversation.unmute();
      await conversation.fetch();
      assert.deepEqual(conversation.mutedMembers, []);
    });

    scenario('ordinary: update attributes', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      conversation.name = 'renamed';
      await conversation.save();
      const jerry = await t.open('jerry');
      assert.equal((await seenBy(jerry, conversation)).name, 'renamed');
    });
  });
}
