// What is particular to temporary conversations.

import assert from 'node:assert/strict';

import { create, rawLogs, rawRow, sendTexts } from './shared.mjs';

const DAY = 86_400;

function startRaw(t, client, members, tempConvTTL) {
  const convMessage = { m: members, unique: true, tempConv: true, attr: t.json(client, {}) };
  if (tempConvTTL !== undefined) convMessage.tempConvTTL = tempConvTTL;
  return t.raw(client, { cmd: 'conv', op: 'start', convMessage });
}

/** Polls the server until it says that the conversation is over. */
async function expired(t, client, cid) {
  await t.until('the server says 4323', async () => {
    try {
      await t.raw(client, { cmd: 'conv', op: 'count', convMessage: { cid } });
      return false;
    } catch (error) {
      if (error.code === 4323) return true;
      throw error;
    }
  });
}

export default function temporary(ring) {
  ring.suite('temporary', scenario => {
    for (const [what, asked, granted] of [
      ['absent', undefined, DAY],
      ['zero', 0, DAY],
      ['negative', -5, DAY],
      ['an hour', 3600, 3600],
      ['thirty days', 30 * DAY, 30 * DAY],
      ['more than thirty days', 31 * DAY, 30 * DAY],
    ]) {
      scenario(`a time to live that is ${what}`, async t => {
        const tom = await t.open('tom');
        const { convMessage } = await startRaw(t, tom, [tom.id, t.name('jerry')], asked);
        assert.match(convMessage.cid, /^_tmp:/);
        assert.equal(convMessage.tempConvTTL, granted);
        assert.equal((await rawRow(t, tom, convMessage.cid)).ttl, granted);
      });
    }

    scenario('the SDK knows when it ends', async t => {
      const tom = await t.open('tom');
      const conversation = await tom.createTemporaryConversation({ members: [t.name('jerry')], ttl: 3600 });
      assert.ok(conversation instanceof tom.AV.TemporaryConversation);
      const left = conversation.expiredAt - Date.now();
      assert.ok(left > 3_500_000 && left <= 3_600_000, `${left} ms are left`);
    });

    scenario('all members hear of it at once', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const william = await t.open('william');
      const conversation = await create(t, 'temporary', tom, 'jerry', 'william');
      for (const client of [tom, jerry, william]) {
        const [invited, where] = await t.event(client, 'invited');
        assert.equal(invited.invitedBy, tom.id);
        assert.equal(where.id, conversation.id);
        assert.ok(where instanceof client.AV.TemporaryConversation);
        const [joined] = await t.event(client, 'membersjoined');
        assert.deepEqual([...joined.members].sort(), [jerry.id, tom.id, william.id].sort());
      }
      const { OpType } = jerry.AV.Protocals;
      const push = await t.push(jerry, ({ op }) => op === OpType.joined, 'push joined');
      assert.equal(push.convMessage.tempConv, true);
      assert.equal(push.convMessage.tempConvTTL, DAY);
    });

    scenario('ten clients with the creator are the most', async t => {
      const tom = await t.open('tom');
      const nine = Array.from({ length: 9 }, (_, index) => t.name(`m${index}`));
      const full = await tom.createTemporaryConversation({ members: nine });
      assert.equal(await full.count(), 10);
      await t.refused(
        tom.createTemporaryConversation({ members: [...nine, t.name('m9')] }),
        4304,
      );
      await t.refused(startRaw(t, tom, [...nine, t.name('m9')]), 4304);
      const twice = await startRaw(t, tom, [...nine, ...nine]);
      assert.equal(twice.convMessage.cid, full.id);
    });

    scenario('the same members while alive get the same conversation', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const first = await create(t, 'temporary', tom, 'jerry');
      const again = await create(t, 'temporary', tom, 'jerry');
      const back = await create(t, 'temporary', jerry, 'tom');
      assert.equal(again.id, first.id);
      assert.equal(back.id, first.id);
      const other = await create(t, 'temporary', tom, 'jerry', 'mary');
      assert.notEqual(other.id, first.id);
    });

    scenario('found by tempConvIds, with all fields', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const one = await create(t, 'temporary', tom, 'jerry');
      const two = await create(t, 'temporary', tom, 'jerry', 'mary');
      const answer = await t.raw(jerry, {
        cmd: 'conv',
        op: 'query',
        convMessage: { tempConvIds: [one.id, '_tmp:00000000000000000000000000000000', two.id] },
      });
      const rows = JSON.parse(answer.convMessage.results.data);
      assert.deepEqual(rows.map(({ objectId }) => objectId).sort(), [one.id, two.id].sort());
      const row = rows.find(({ objectId }) => objectId === one.id);
      assert.equal(row.temp, true);
      assert.equal(row.ttl, DAY);
      assert.equal(row.c, tom.id);
      assert.deepEqual([...row.m].sort(), [jerry.id, tom.id].sort());
      assert.match(row.createdAt, /Z$/);
    });

    scenario('never among ordinary conversations', async t => {
      const tom = await t.open('tom');
      const mark = t.name('mark');
      const conversation = await tom.createTemporaryConversation({ members: [t.name('jerry')], mark, name: mark });
      assert.deepEqual(await tom.getQuery().equalTo('mark', mark).find(), []);
      assert.deepEqual(await tom.getQuery().equalTo('name', mark).find(), []);
      assert.deepEqual(await tom.getQuery().equalTo('objectId', conversation.id).find(), []);
      assert.deepEqual(await tom.getQuery().containsMembers([tom.id]).find(), []);
    });

    scenario('gone when its time is over, and a new one can be made', async t => {
      const tom = await t.open('tom');
      const members = [t.name('jerry')];
      const began = Date.now();
      const conversation = await tom.createTemporaryConversation({ members, ttl: 2 });
      await sendTexts(t, tom, conversation, 'soon gone');
      await expired(t, tom, conversation.id);
      assert.ok(Date.now() - began >= 1_900, 'it must live its whole time');
      const send = dt => t.raw(tom, {
        cmd: 'direct',
        directMessage: { cid: conversation.id, msg: 'late', dt },
      });
      const refusal = await send('late-1').then(
        ({ ackMessage }) => ackMessage.code,
        ({ code }) => code,
      );
      assert.equal(refusal, 4323);
      await t.refused(rawLogs(t, tom, conversation), 4323);
      await t.refused(
        t.raw(tom, { cmd: 'conv', op: 'max_read', convMessage: { cid: conversation.id } }),
        4323,
      );
      await t.refused(
        t.raw(tom, { cmd: 'conv', op: 'status', convMessage: { cid: conversation.id, statusSub: true } }),
        4323,
      );
      assert.equal(await rawRow(t, tom, conversation.id), undefined);
      const next = await tom.createTemporaryConversation({ members, ttl: 60 });
      assert.notEqual(next.id, conversation.id);
      assert.deepEqual(await next.queryMessages(), []);
    });

    scenario('the unread count of one that is over is gone', async t => {
      const tom = await t.open('tom');
      const conversation = await tom.createTemporaryConversation({ members: [t.name('jerry')], ttl: 2 });
      const kept = await create(t, 'ordinary', tom, 'jerry');
      await sendTexts(t, tom, conversation, 'soon gone');
      await sendTexts(t, tom, kept, 'stays');
      await expired(t, tom, conversation.id);
      const jerry = await t.open('jerry');
      const [conversations] = await t.event(jerry, 'unreadmessagescountupdate');
      assert.deepEqual(conversations.map(({ id }) => id), [kept.id]);
    });

    scenario('a stranger learns nothing', async t => {
      const tom = await t.open('tom');
      const stranger = await t.open('stranger');
      const conversation = await create(t, 'temporary', tom, 'jerry');
      const [sent] = await sendTexts(t, tom, conversation, 'secret');
      assert.equal(await stranger.getConversation(conversation.id), null);
      const refusals = [4303, 4309, 4312, 4317, 4323];
      await t.refused(rawLogs(t, stranger, conversation), ...refusals);
      for (const op of ['count', 'max_read', 'members', 'status']) {
        const convMessage = { cid: conversation.id };
        if (op === 'status') convMessage.statusSub = true;
        await t.refused(t.raw(stranger, { cmd: 'conv', op, convMessage }), ...refusals, 4314, 4316);
      }
      for (const op of ['add', 'remove']) {
        await t.refused(
          t.raw(stranger, { cmd: 'conv', op, convMessage: { cid: conversation.id, m: [stranger.id] } }),
          ...refusals,
          4314,
        );
      }
      const code = await t
        .raw(stranger, { cmd: 'direct', directMessage: { cid: conversation.id, msg: 'hi', dt: 'dt-stranger' } })
        .then(({ ackMessage }) => ackMessage.code, error => error.code);
      assert.ok([4303, 4323, 4401].includes(code), `sending gave ${code}`);
      await t.refused(
        t.raw(stranger, {
          cmd: 'patch',
          op: 'modify',
          patchMessage: {
            patches: [{ cid: conversation.id, mid: sent.id, timestamp: Number(sent.timestamp), recall: true }],
          },
        }),
        ...refusals,
        4401,
        4403,
        4404,
      );
      assert.equal((await conversation.queryMessages()).length, 1);
    });

    scenario('its own attributes are kept as created', async t => {
      const tom = await t.open('tom');
      const conversation = await tom.createTemporaryConversation({
        members: [t.name('jerry')],
        name: 'support case',
        order: 17,
      });
      const row = await rawRow(t, tom, conversation.id);
      assert.equal(row.name, 'support case');
      assert.equal(row.order, 17);
    });
  });
}
