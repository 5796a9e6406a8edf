// Chat rooms: no member list, only who is online in them.

import assert from 'node:assert/strict';

import { rawLogs, rawRow, seenBy, sendTexts } from './shared.mjs';

export default function chatRooms(ring) {
  ring.suite('chat rooms', scenario => {
    scenario('create, join, send, quit and the online count', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const room = await tom.createChatRoom({ name: 'room' });
      assert.ok(room instanceof tom.AV.ChatRoom);
      assert.equal(await room.count(), 1);
      const atJerry = await seenBy(jerry, room);
      assert.ok(atJerry instanceof jerry.AV.ChatRoom);
      assert.equal(atJerry.name, 'room');
      await atJerry.join();
      assert.equal(await room.count(), 2);
      await sendTexts(t, tom, room, 'hello room');
      await t.message(jerry, 'hello room');
      await sendTexts(t, jerry, atJerry, 'hello tom');
      await t.message(tom, 'hello tom');
      await atJerry.quit();
      assert.equal(await room.count(), 1);
      await sendTexts(t, tom, room, 'after jerry left');
      await t.barrier(jerry);
      assert.deepEqual(t.seen(jerry, 'message'), []);
    });

    scenario('members are not stored and nobody is told of coming and going', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const room = await tom.createChatRoom({ name: 'room' });
      await (await seenBy(jerry, room)).join();
      const row = await rawRow(t, jerry, room.id);
      assert.equal(row.tr, true);
      assert.deepEqual(row.m, []);
      await t.barrier(tom);
      await t.barrier(jerry);
      for (const client of [tom, jerry]) {
        assert.deepEqual(t.seen(client, 'invited'), []);
        assert.deepEqual(t.seen(client, 'membersjoined'), []);
      }
    });

    scenario('found among the chat rooms only', async t => {
      const tom = await t.open('tom');
      const mark = t.name('mark');
      const room = await tom.createChatRoom({ name: 'room', mark });
      const found = await tom.getChatRoomQuery().equalTo('mark', mark).find();
      assert.deepEqual(found.map(({ id }) => id), [room.id]);
      assert.deepEqual(await tom.getQuery().equalTo('mark', mark).find(), []);
    });

    scenario('a closed session leaves the room', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const room = await tom.createChatRoom({ name: 'room' });
      await (await seenBy(jerry, room)).join();
      assert.equal(await room.count(), 2);
      await jerry.close();
      assert.equal(await room.count(), 1);
    });

    scenario('the names of those who are online in it', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const room = await tom.createChatRoom({ name: 'room' });
      await (await seenBy(jerry, room)).join();
      const answer = await t.raw(tom, { cmd: 'conv', op: 'members', convMessage: { cid: room.id, limit: 50 } });
      assert.deepEqual([...answer.convMessage.m].sort(), [jerry.id, tom.id].sort());
    });

    scenario('messages count for nobody as unread', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const room = await tom.createChatRoom({ name: 'room' });
      await (await seenBy(jerry, room)).join();
      await jerry.close();
      await sendTexts(t, tom, room, 'x');
      const again = await t.open('jerry');
      await t.barrier(again);
      assert.deepEqual(t.seen(again, 'unreadmessagescountupdate'), []);
    });

    scenario('history for a visitor, transient messages left out', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const room = await tom.createChatRoom({ name: 'room' });
      await sendTexts(t, tom, room, 'kept');
      await room.send(t.text(tom, 'passing'), { transient: true });
      const atJerry = await seenBy(jerry, room);
      await atJerry.join();
      const logs = await rawLogs(t, jerry, room);
      assert.deepEqual(logs.map(({ data }) => JSON.parse(data)._lctext), ['kept']);
    });

    scenario('a reconnect puts the client back into its room', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const room = await tom.createChatRoom({ name: 'room' });
      await (await seenBy(jerry, room)).join();
      await t.drop(jerry);
      await sendTexts(t, tom, room, 'still here?');
      await t.message(jerry, 'still here?');
    });
  });
}
