// Membership events that happened while a client was away.

import assert from 'node:assert/strict';

import { create, KINDS, seenBy } from './shared.mjs';

async function fetchNotifications(t, client, query, token) {
  const url = new URL('/1.1/rtm/notifications', t.server.url);
  for (const [key, value] of Object.entries({ client_id: client.id, ...query })) {
    url.searchParams.set(key, value);
  }
  const answer = await fetch(url, {
    headers: {
      'X-LC-Id': t.app.id,
      'X-LC-Key': t.app.key,
      'X-LC-IM-Session-Token': token ?? (await client._sessionManager.getSessionToken()),
    },
  });
  return { status: answer.status, body: await answer.json() };
}

export default function notifications(ring) {
  ring.suite('notifications', scenario => {
    for (const kind of KINDS) {
      scenario(`${kind}: an invitation while away is told on return`, async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        await t.barrier(jerry);
        t.lose(jerry);
        // 4.3.1 asks for what came after its own clock's time of login, to the millisecond.
        const login = Date.now();
        await t.until('the clock has moved on', () => Date.now() > login + 1);
        const conversation = await create(t, kind, tom, 'jerry');
        await t.comeBack(jerry);
        const [payload, where] = await t.event(jerry, 'invited');
        assert.equal(payload.invitedBy, tom.id);
        assert.equal(where.id, conversation.id);
      });
    }

    scenario('a removal while away is told on return', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await t.event(jerry, 'invited');
      await seenBy(jerry, conversation);
      t.lose(jerry);
      await conversation.remove([jerry.id]);
      await t.comeBack(jerry);
      const [payload, where] = await t.event(jerry, 'kicked');
      assert.equal(payload.kickedBy, tom.id);
      assert.equal(where.id, conversation.id);
    });

    scenario('what was told live is not told again', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const first = await create(t, 'ordinary', tom, 'jerry');
      await t.event(jerry, 'invited');
      await t.drop(jerry);
      const other = await create(t, 'temporary', tom, 'jerry');
      await t.event(jerry, 'invited', (_, where) => where.id === other.id);
      // Behind the SDK's own request for what it missed.
      const token = await jerry._sessionManager.getSessionToken();
      await fetchNotifications(t, jerry, { start_ts: Date.now(), notification_type: 'permanent' }, token);
      await t.barrier(jerry);
      assert.deepEqual(t.seen(jerry, 'invited').filter(([, where]) => where.id === first.id), []);
    });

    scenario('the format of the JavaScript SDK', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const before = Date.now() - 5_000;
      const token = await jerry._sessionManager.getSessionToken();
      t.lose(jerry);
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const ask = start_ts => fetchNotifications(t, jerry, { start_ts, notification_type: 'permanent' }, token);
      const { body } = await ask(before);
      assert.equal(body.hasMore, false);
      const mine = body.notifications.filter(({ cid }) => cid === conversation.id);
      assert.equal(mine.length, 1);
      const [{ cmd, op, initBy, serverTs, notificationType }] = mine;
      assert.deepEqual({ cmd, op, initBy, notificationType }, {
        cmd: 'conv',
        op: 'joined',
        initBy: tom.id,
        notificationType: 1,
      });
      assert.ok(Number.isInteger(serverTs));
      assert.deepEqual((await ask(serverTs)).body.notifications, []);
    });

    scenario('the format of the Swift SDK', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const before = Date.now() - 5_000;
      const token = await jerry._sessionManager.getSessionToken();
      t.lose(jerry);
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      conversation.name = 'renamed';
      await conversation.save();
      const { body } = await fetchNotifications(t, jerry, { start_ts: before }, token);
      const permanent = body.permanent.notifications.filter(({ cid }) => cid === conversation.id);
      assert.deepEqual(permanent.map(({ op }) => op), ['joined']);
      assert.equal(body.permanent.hasMore, false);
      const droppable = body.droppable.notifications.filter(({ cid }) => cid === conversation.id);
      assert.equal(body.droppable.invalidLocalConvCache, false);
      const updated = droppable.find(({ op }) => op === 'updated');
      assert.deepEqual(updated.attr, { name: 'renamed' });
      assert.deepEqual(updated.attrModified, { name: 'renamed' });
      assert.ok(droppable.some(({ op }) => op === 'members-joined'));
    });

    scenario('without a valid token nothing is told', async t => {
      const jerry = await t.open('jerry');
      const query = { start_ts: 0, notification_type: 'permanent' };
      const { status } = await fetchNotifications(t, jerry, query, 'not-a-token');
      assert.equal(status, 401);
      const tom = await t.open('tom');
      const foreign = await fetchNotifications(t, jerry, query, await tom._sessionManager.getSessionToken());
      assert.equal(foreign.status, 401);
    });
  });
}
