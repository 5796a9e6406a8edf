// The server goes and comes back on the same data. Last of all suites, one after the other.

import assert from 'node:assert/strict';

import { textsOf } from '../../lib/easemob/device.mjs';
import { BOTH, talk } from './shared.mjs';

const ALONE = { alone: true, timeout: 30_000 };

async function restarted(t, signal) {
  await t.server.stop(signal);
  await t.server.start();
}

/** Waits until the SDK of this device is logged in again. */
async function connected(t, device) {
  await t.event(device, 'onReconnecting');
  await t.event(device, 'onConnected');
}

export default function restart(ring) {
  ring.suite('easemob-restart', scenario => {
    for (const signal of ['SIGTERM', 'SIGKILL']) {
      scenario(`${signal}: everything is there afterwards, and the SDKs come back`, async t => {
        const { tom, jerry, group } = await talk(t, 'group');
        const phone = await t.open('jerry');
        await t.event(tom, 'onConnected');
        await t.event(jerry, 'onConnected');
        const ids = await tom.sayAll(jerry.id, 'one', 'two', 'three');
        await tom.sayIn(group, 'in the group');
        await t.message(jerry, 'in the group');
        await t.barrier(phone);
        await phone.close();
        await tom.say(jerry.id, 'four');
        await t.message(jerry, 'four');
        await jerry.removeMessages(tom.id, { messageIds: [ids[0]] });
        await jerry.conn.pinConversation({ conversationId: group, conversationType: 'groupChat', isPinned: true });
        await t.barrier(jerry);
        await restarted(t, signal);
        await Promise.all([connected(t, tom), connected(t, jerry)]);
        assert.deepEqual(await jerry.texts(tom.id), ['two', 'three', 'four']);
        assert.deepEqual(await tom.texts(jerry.id), ['one', 'two', 'three', 'four']);
        const entry = await jerry.entry(tom.id);
        assert.deepEqual([entry.text, entry.unread_num], ['four', 3]);
        assert.equal((await jerry.entry(group)).unread_num, 1);
        const { data: pinned } = await jerry.conn.getServerPinnedConversations({ pageSize: 20 });
        assert.deepEqual(pinned.conversations.map(({ conversationId }) => conversationId), [group]);
        await t.barrier(jerry);
        assert.deepEqual(textsOf(t.messages(jerry).filter(({ msg }) => ['four', 'in the group'].includes(msg))), []);
        // The device that was away gets what it missed, once.
        await phone.open({ accessToken: await t.rest.userToken(jerry.id) });
        await t.message(phone, 'four');
        await t.event(phone, 'onOfflineMessageSyncFinish');
        await tom.say(jerry.id, 'five');
        await t.message(phone, 'five');
        await t.message(jerry, 'five');
        await t.barrier(phone);
        assert.deepEqual(textsOf(t.messages(phone).filter(({ msg }) => ['four', 'five'].includes(msg))), []);
        const { messages } = await tom.history(jerry.id);
        const times = messages.map(({ time }) => time);
        assert.deepEqual(times, [...times].sort((a, b) => b - a));
      }, { ...ALONE, ...(signal === 'SIGTERM' ? BOTH : {}) });
    }

    scenario('between the operations of the page', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await t.event(tom, 'onConnected');
      await t.event(jerry, 'onConnected');
      const ids = await tom.sayAll(jerry.id, 'one', 'two', 'three', 'four');
      const first = await jerry.history(tom.id, { pageSize: 2 });
      const { cursor } = await jerry.conversations({ pageSize: 1 });
      await jerry.removeMessages(tom.id, { messageIds: [ids[1]] });
      await restarted(t, 'SIGTERM');
      await Promise.all([connected(t, tom), connected(t, jerry)]);
      const second = await jerry.history(tom.id, { pageSize: 2, cursor: first.cursor });
      assert.deepEqual(textsOf(second.messages), ['one']);
      if (cursor !== '') assert.deepEqual((await jerry.conversations({ cursor })).conversations, []);
      await jerry.removeConversation(tom.id, true);
      await restarted(t, 'SIGKILL');
      await Promise.all([connected(t, tom), connected(t, jerry)]);
      assert.deepEqual(await jerry.texts(tom.id), []);
      assert.deepEqual(await tom.texts(jerry.id), []);
      assert.deepEqual(await tom.peers(), []);
      await jerry.say(tom.id, 'anew');
      await t.message(tom, 'anew');
      assert.deepEqual(await tom.texts(jerry.id), ['anew']);
    }, ALONE);

    scenario('a message whose ack was lost is stored once', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await t.event(tom, 'onConnected');
      await t.event(jerry, 'onConnected');
      const message = tom.create({ type: 'txt', to: jerry.id, msg: 'once' });
      const { serverMsgId } = await tom.conn.send(message);
      await restarted(t, 'SIGKILL');
      await Promise.all([connected(t, tom), connected(t, jerry)]);
      assert.equal((await tom.conn.send(message)).serverMsgId, serverMsgId);
      assert.deepEqual(await jerry.texts(tom.id), ['once']);
    }, ALONE);

    scenario('a message sent while the server is away goes out later', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await t.event(tom, 'onConnected');
      await t.event(jerry, 'onConnected');
      await t.server.stop('SIGTERM');
      await t.event(tom, 'onReconnecting');
      const sent = tom.say(jerry.id, 'into the void');
      await t.server.start();
      await sent;
      await t.message(jerry, 'into the void');
      await t.barrier(jerry);
      assert.deepEqual(t.messages(jerry), []);
      assert.deepEqual(await jerry.texts(tom.id), ['into the void']);
    }, ALONE);
  });
}
