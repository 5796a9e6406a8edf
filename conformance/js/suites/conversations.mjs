// Ordinary conversations: creation, membership, attributes, muting.

import assert from 'node:assert/strict';

import { create, rawRow, seenBy, sendTexts } from './shared.mjs';

const isoMillis = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

export default function conversations(ring) {
  ring.suite('conversations', scenario => {
    scenario('create tells every member, the creator included', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await tom.createConversation({
        members: [jerry.id],
        name: 'two of us',
        unique: false,
        colour: 'blue',
      });
      assert.match(conversation.id, /^[0-9a-f]{24}$/);
      for (const client of [tom, jerry]) {
        const [invited, where] = await t.event(client, 'invited');
        assert.equal(invited.invitedBy, tom.id);
        assert.equal(where.id, conversation.id);
        const [joined] = await t.event(client, 'membersjoined');
        assert.deepEqual([...joined.members].sort(), [jerry.id, tom.id].sort());
        assert.equal(joined.invitedBy, tom.id);
      }
      const atJerry = await seenBy(jerry, conversation);
      assert.ok(atJerry instanceof jerry.AV.Conversation);
      assert.equal(atJerry.name, 'two of us');
      assert.equal(atJerry.get('colour'), 'blue');
      assert.equal(atJerry.creator, tom.id);
      assert.equal(Number(atJerry.createdAt), Number(conversation.createdAt));
    });

    scenario('pushes carry service, peer, server time and the kind of notification', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const { OpType } = jerry.AV.Protocals;
      const joined = await t.push(jerry, ({ op }) => op === OpType.joined, 'push joined');
      assert.equal(joined.service, 2);
      assert.equal(joined.peerId, jerry.id);
      assert.ok(Number(joined.serverTs) > 0);
      assert.equal(joined.convMessage.cid, conversation.id);
      assert.match(joined.convMessage.udate, isoMillis);
      if (t.version === '5') assert.equal(joined.notificationType, 1);
      const members = await t.push(jerry, ({ op }) => op === OpType.members_joined, 'push members_joined');
      if (t.version === '5') assert.equal(members.notificationType, 2);
    });

    scenario('the row has exactly the types that SDKs cast to', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await sendTexts(t, tom, conversation, 'last');
      const row = await rawRow(t, tom, conversation.id);
      assert.equal(row.objectId, conversation.id);
      assert.equal(row.c, tom.id);
      assert.deepEqual([...row.m].sort(), [t.name('jerry'), tom.id].sort());
      assert.deepEqual(row.mu, []);
      assert.match(row.createdAt, isoMillis);
      assert.match(row.updatedAt, isoMillis);
      assert.equal(row.lm.__type, 'Date');
      assert.match(row.lm.iso, isoMillis);
      assert.ok(!Object.values(row).includes(null), 'no value may be null');
    });

    scenario('unique gives the same conversation for the same members', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const first = await tom.createConversation({ members: [jerry.id], unique: true, name: 'N' });
      const again = await tom.createConversation({ members: [jerry.id], unique: true, name: 'N2' });
      const back = await jerry.createConversation({ members: [tom.id], unique: true });
      assert.equal(again.id, first.id);
      assert.equal(back.id, first.id);
      const row = await rawRow(t, jerry, first.id);
      assert.equal(row.name, 'N');
      assert.equal(row.unique, true);
      assert.match(row.uniqueId, /^[0-9a-f]{32}$/);
      await t.event(jerry, 'invited');
      await t.barrier(jerry);
      assert.equal(t.seen(jerry, 'invited').length, 0);
    });

    scenario('not unique gives a new one each time', async t => {
      const tom = await t.open('tom');
      const one = await create(t, 'ordinary', tom, 'jerry');
      const two = await create(t, 'ordinary', tom, 'jerry');
      assert.notEqual(one.id, two.id);
    });

    scenario('add tells the new member and all others', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const mary = await t.open('mary');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await t.event(jerry, 'membersjoined');
      await t.event(tom, 'membersjoined');
      const result = await conversation.add([mary.id]);
      assert.deepEqual(result.successfulClientIds, [mary.id]);
      assert.deepEqual(result.failures, []);
      const [invited] = await t.event(mary, 'invited');
      assert.equal(invited.invitedBy, tom.id);
      for (const client of [mary, jerry, tom]) {
        const [joined, where] = await t.event(client, 'membersjoined');
        assert.deepEqual(joined.members, [mary.id]);
        assert.ok(where.members.includes(mary.id));
      }
      const repeated = await conversation.add([mary.id]);
      assert.deepEqual(repeated.successfulClientIds, [mary.id]);
      assert.equal(await conversation.count(), 3);
    });

    scenario('remove tells the removed member only of itself', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const mary = await t.open('mary');
      const conversation = await create(t, 'ordinary', tom, 'jerry', 'mary');
      await t.event(mary, 'membersjoined');
      await conversation.remove([mary.id]);
      const [kicked, where] = await t.event(mary, 'kicked');
      assert.equal(kicked.kickedBy, tom.id);
      assert.equal(where.id, conversation.id);
      for (const client of [jerry, tom]) {
        const [left] = await t.event(client, 'membersleft');
        assert.deepEqual(left.members, [mary.id]);
        assert.equal(left.kickedBy, tom.id);
      }
      await t.barrier(mary);
      assert.deepEqual(t.seen(mary, 'membersleft'), []);
      await sendTexts(t, tom, conversation, 'without mary');
      await t.message(jerry, 'without mary');
      await t.barrier(mary);
      assert.deepEqual(t.seen(mary, 'message'), []);
    });

    scenario('join by oneself', async t => {
      const tom = await t.open('tom');
      const mary = await t.open('mary');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await (await seenBy(mary, conversation)).join();
      const [invited] = await t.event(mary, 'invited');
      assert.equal(invited.invitedBy, mary.id);
      await t.event(tom, 'membersjoined', ({ members }) => members.includes(mary.id) && members.length === 1);
      await sendTexts(t, tom, conversation, 'welcome');
      await t.message(mary, 'welcome');
    });

    scenario('quit tells the others, and sending is refused afterwards', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const atJerry = await seenBy(jerry, conversation);
      await atJerry.quit();
      const [left] = await t.event(tom, 'membersleft');
      assert.deepEqual(left.members, [jerry.id]);
      await t.event(jerry, 'kicked');
      await t.refused(atJerry.send(t.text(jerry, 'one more thing')), 4401);
    });

    scenario('members added while away are found on return', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await conversation.add([t.name('mary')]);
      const mary = await t.open('mary');
      await sendTexts(t, tom, conversation, 'here you are');
      await t.message(mary, 'here you are');
    });

    scenario('update sets nested attributes and tells the others', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await tom.createConversation({
        members: [jerry.id],
        unique: false,
        attr: { kept: 'yes', x: 0 },
      });
      const atJerry = await seenBy(jerry, conversation);
      // Behind the SDK's own queries for the invitation, whose answers would overwrite the change.
      await t.barrier(jerry);
      const before = conversation.updatedAt;
      conversation.name = 'new name';
      conversation.set('attr.x', 1);
      conversation.set('top', { deep: [1, 'two'] });
      await conversation.save();
      assert.ok(conversation.updatedAt > before);
      const [payload] = await t.event(atJerry, 'infoupdated');
      assert.equal(payload.updatedBy, tom.id);
      await t.event(jerry, 'conversationinfoupdated');
      assert.equal(atJerry.name, 'new name');
      assert.deepEqual(atJerry.get('attr'), { kept: 'yes', x: 1 });
      assert.deepEqual(atJerry.get('top'), { deep: [1, 'two'] });
      const fresh = await rawRow(t, jerry, conversation.id);
      assert.equal(fresh.name, 'new name');
      assert.deepEqual(fresh.attr, { kept: 'yes', x: 1 });
      await t.barrier(tom);
      assert.deepEqual(t.seen(tom, 'conversationinfoupdated'), []);
    });

    scenario('update answers and pushes attr and attrModified', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const answer = await t.raw(tom, {
        cmd: 'conv',
        op: 'update',
        convMessage: { cid: conversation.id, attr: t.json(tom, { 'attr.a.b': 1, name: 'n' }) },
      });
      const { OpType } = jerry.AV.Protocals;
      assert.equal(answer.op, OpType.updated);
      const nested = { name: 'n', attr: { a: { b: 1 } } };
      assert.deepEqual(JSON.parse(answer.convMessage.attrModified.data), nested);
      assert.match(answer.convMessage.udate, isoMillis);
      const push = await t.push(jerry, ({ op }) => op === OpType.updated, 'push updated');
      assert.deepEqual(JSON.parse(push.convMessage.attrModified.data), nested);
      assert.deepEqual(JSON.parse(push.convMessage.attr.data), { 'attr.a.b': 1, name: 'n' });
      assert.equal(push.convMessage.udate, answer.convMessage.udate);
      assert.equal(push.convMessage.initBy, tom.id);
    });

    scenario('update understands operations', async t => {
      const tom = await t.open('tom');
      const conversation = await tom.createConversation({
        members: [t.name('jerry')],
        unique: false,
        attr: { gone: 1, count: 5, list: ['a', 'b'] },
      });
      const update = attr =>
        t.raw(tom, {
          cmd: 'conv',
          op: 'update',
          convMessage: { cid: conversation.id, attr: t.json(tom, attr) },
        });
      await update({
        'attr.gone': { __op: 'Delete' },
        'attr.count': { __op: 'Increment', amount: 3 },
        'attr.list': { __op: 'Add', objects: ['a'] },
      });
      let row = await rawRow(t, tom, conversation.id);
      assert.deepEqual(row.attr, { count: 8, list: ['a', 'b', 'a'] });
      await update({ 'attr.list': { __op: 'AddUnique', objects: ['b', 'c'] } });
      row = await rawRow(t, tom, conversation.id);
      assert.deepEqual(row.attr.list, ['a', 'b', 'a', 'c']);
      await update({ 'attr.list': { __op: 'Remove', objects: ['a'] } });
      row = await rawRow(t, tom, conversation.id);
      assert.deepEqual(row.attr.list, ['b', 'c']);
    });

    scenario('update by a stranger is refused', async t => {
      const tom = await t.open('tom');
      const stranger = await t.open('stranger');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const seen = await seenBy(stranger, conversation);
      seen.name = 'mine now';
      await t.refused(seen.save(), 4309);
      assert.equal((await rawRow(t, tom, conversation.id)).name, 'talk');
    });

    scenario('mute is for oneself and told to nobody', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await t.event(jerry, 'membersjoined');
      const answer = await t.raw(tom, { cmd: 'conv', op: 'mute', convMessage: { cid: conversation.id } });
      assert.equal(answer.op, tom.AV.Protocals.OpType.updated);
      assert.match(answer.convMessage.udate, isoMillis);
      assert.deepEqual((await rawRow(t, jerry, conversation.id)).mu, [tom.id]);
      await t.barrier(jerry);
      assert.deepEqual(t.seen(jerry, 'conversationinfoupdated'), []);
      await conversation.unmute();
      assert.deepEqual((await rawRow(t, jerry, conversation.id)).mu, []);
    });

    scenario('a muted conversation still delivers to those who are online', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await (await seenBy(jerry, conversation)).mute();
      await sendTexts(t, tom, conversation, 'psst');
      await t.message(jerry, 'psst');
    });

    scenario('count', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry', 'mary', 'william');
      assert.equal(await conversation.count(), 4);
    });
  });
}
