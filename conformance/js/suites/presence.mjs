// Members' online status through the leancloud-presence plugin.

import assert from 'node:assert/strict';

import { create, KINDS, seenBy } from './shared.mjs';

export default function presence(ring) {
  ring.suite('presence', scenario => {
    for (const kind of KINDS) {
      const row = (name, body) => scenario(`${kind}: ${name}`, body);

      row('the answer is the present state of all members', async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry', 'william');
        const { online, offline } = await conversation.subscribePresence();
        assert.deepEqual([...online].sort(), [jerry.id, tom.id].sort());
        assert.deepEqual(offline, [t.name('william')]);
        const again = await conversation.subscribePresence();
        assert.deepEqual([...again.online].sort(), [...online].sort());
      });

      row('the wire answers and pushes as agreed', async t => {
        const tom = await t.open('tom');
        const conversation = await create(t, kind, tom, 'jerry');
        const status = statusSub =>
          t.raw(tom, { cmd: 'conv', op: 'status', convMessage: { cid: conversation.id, statusSub } });
        const answer = await status(true);
        const { OpType, CommandType } = tom.AV.Protocals;
        assert.equal(answer.op, OpType.status);
        assert.equal(answer.convMessage.cid, conversation.id);
        assert.equal(answer.convMessage.statusSub, true);
        assert.equal(answer.convMessage.statusPub, true);
        assert.ok(answer.convMessage.statusTTL === null || answer.convMessage.statusTTL > 0);
        assert.deepEqual([...answer.convMessage.m].sort(), [t.name('jerry'), tom.id].sort());
        assert.deepEqual(answer.sessionMessage.onlineSessionPeerIds, [tom.id]);
        const jerry = await t.open('jerry');
        const push = await t.push(tom, ({ cmd }) => cmd === CommandType.presence, 'push presence');
        assert.equal(push.service, 2);
        assert.equal(push.peerId, tom.id);
        assert.equal(push.i, null);
        assert.equal(push.presenceMessage.status, 1);
        assert.equal(push.presenceMessage.cid, conversation.id);
        assert.deepEqual(push.presenceMessage.sessionPeerIds, [jerry.id]);
        await jerry.close();
        const gone = await t.push(tom, ({ cmd }) => cmd === CommandType.presence, 'push presence off');
        assert.equal(gone.presenceMessage.status, 2);
        const ended = await status(false);
        assert.equal(ended.convMessage.cid, conversation.id);
        assert.equal(ended.convMessage.statusSub, false);
      });

      row('coming and a polite leaving are told at once', async t => {
        const tom = await t.open('tom');
        const conversation = await create(t, kind, tom, 'jerry');
        await conversation.subscribePresence();
        const jerry = await t.open('jerry');
        const [came] = await t.event(conversation, 'presence');
        assert.deepEqual(came, { online: [jerry.id], offline: [] });
        const began = Date.now();
        await jerry.close();
        const [went] = await t.event(conversation, 'presence');
        assert.deepEqual(went, { online: [], offline: [jerry.id] });
        assert.ok(Date.now() - began < 900, 'before the grace time is over');
      });

      row('a lost connection is told after the grace time', async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        await conversation.subscribePresence();
        const began = Date.now();
        t.lose(jerry);
        const [went] = await t.event(conversation, 'presence');
        assert.deepEqual(went, { online: [], offline: [jerry.id] });
        assert.ok(Date.now() - began >= 900, 'not before the grace time is over');
        await t.comeBack(jerry);
        const [came] = await t.event(conversation, 'presence');
        assert.deepEqual(came, { online: [jerry.id], offline: [] });
      });

      row('several devices count as one', async t => {
        const tom = await t.open('tom');
        const phone = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        await conversation.subscribePresence();
        const desk = await t.open('jerry');
        await phone.close();
        await t.barrier(tom);
        assert.deepEqual(t.seen(conversation, 'presence'), []);
        await desk.close();
        const [went] = await t.event(conversation, 'presence');
        assert.deepEqual(went, { online: [], offline: [desk.id] });
      });

      row('a stranger is refused', async t => {
        const tom = await t.open('tom');
        const stranger = await t.open('stranger');
        const conversation = await create(t, kind, tom, 'jerry');
        await t.refused(
          t.raw(stranger, { cmd: 'conv', op: 'status', convMessage: { cid: conversation.id, statusSub: true } }),
          4309,
        );
      });

      row('unsubscribe stops the news', async t => {
        const tom = await t.open('tom');
        const witness = await t.open('witness');
        const conversation = await create(t, kind, tom, 'jerry', 'witness');
        const atWitness = await seenBy(witness, conversation);
        await conversation.unsubscribePresence();
        await conversation.subscribePresence();
        await atWitness.subscribePresence();
        await conversation.unsubscribePresence();
        await conversation.unsubscribePresence();
        await t.open('jerry');
        await t.event(atWitness, 'presence');
        await t.barrier(tom);
        assert.deepEqual(t.seen(conversation, 'presence'), []);
        const { CommandType } = tom.AV.Protocals;
        assert.ok(!t.pushes(tom).some(({ cmd }) => cmd === CommandType.presence));
      });

      row('renewed after a reconnect, with what changed meanwhile', async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry', 'william');
        await conversation.subscribePresence();
        t.lose(tom);
        await jerry.close();
        await t.open('william');
        await t.comeBack(tom);
        const [changes] = await t.event(conversation, 'presence');
        assert.deepEqual(changes, { online: [t.name('william')], offline: [jerry.id] });
        await t.open('jerry');
        const [came] = await t.event(conversation, 'presence');
        assert.deepEqual(came, { online: [jerry.id], offline: [] });
      });

      row('renewed before its time to live is over', async t => {
        const tom = await t.open('tom');
        const conversation = await create(t, kind, tom, 'jerry');
        await conversation.subscribePresence({ ttl: 2 });
        const began = Date.now();
        await t.until('the time to live is over', () => Date.now() - began > 2_500);
        await t.open('jerry');
        await t.event(conversation, 'presence');
      });

      row('ends with its time to live when nobody renews it', async t => {
        const tom = await t.open('tom');
        const witness = await t.open('witness');
        const conversation = await create(t, kind, tom, 'jerry', 'witness');
        const atWitness = await seenBy(witness, conversation);
        await atWitness.subscribePresence();
        const answer = await t.raw(tom, {
          cmd: 'conv',
          op: 'status',
          convMessage: { cid: conversation.id, statusSub: true, statusTTL: 1 },
        });
        assert.equal(answer.convMessage.statusTTL, 1);
        const began = Date.now();
        await t.until('the time to live is over', () => Date.now() - began > 1_200);
        await t.open('jerry');
        await t.event(atWitness, 'presence');
        await t.barrier(tom);
        const { CommandType } = tom.AV.Protocals;
        assert.ok(!t.pushes(tom).some(({ cmd }) => cmd === CommandType.presence));
      });
    }

    scenario('ordinary: ends with the membership', async t => {
      const tom = await t.open('tom');
      const mary = await t.open('mary');
      const conversation = await create(t, 'ordinary', tom, 'jerry', 'mary');
      const atMary = await seenBy(mary, conversation);
      await atMary.subscribePresence();
      await conversation.subscribePresence();
      await conversation.remove([mary.id]);
      await t.event(mary, 'kicked');
      await t.open('jerry');
      await t.event(conversation, 'presence', ({ online }) => online.includes(t.name('jerry')));
      await t.barrier(mary);
      const { CommandType } = mary.AV.Protocals;
      assert.ok(!t.pushes(mary).some(({ cmd }) => cmd === CommandType.presence));
    });

    scenario('temporary: one that is over answers 4323', async t => {
      const tom = await t.open('tom');
      const conversation = await tom.createTemporaryConversation({ members: [t.name('jerry')], ttl: 1 });
      await t.until('it is over', async () => {
        try {
          await t.raw(tom, { cmd: 'conv', op: 'status', convMessage: { cid: conversation.id, statusSub: true } });
          return false;
        } catch (error) {
          assert.equal(error.code, 4323);
          return true;
        }
      });
      await t.refused(conversation.subscribePresence(), 4323);
    });
  });
}
