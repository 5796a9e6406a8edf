// Deleting a conversation: for everybody or for oneself, with or without its messages.

import assert from 'node:assert/strict';

import { BOTH, KINDS, bearer, talk } from './shared.mjs';

const OWN = { settings: { conversation_delete_scope: 'self' } };
const ADMINS = { settings: { group_delete_all_requires_admin: true } };

export default function deletion(ring) {
  ring.suite('easemob-deletion', scenario => {
    for (const kind of KINDS) {
      scenario(`${kind}: for everybody, with the messages`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const phone = await t.open('jerry');
        await tom.say(at(tom), 'one', { chatType });
        await tom.say(at(tom), 'two', { chatType });
        await t.message(phone, 'two');
        const { data } = await jerry.removeConversation(at(jerry), true, chatType);
        assert.equal(data.result, 'ok');
        for (const device of [tom, jerry, phone]) {
          assert.deepEqual(await device.list(), []);
          assert.deepEqual(await device.peers(), []);
          assert.deepEqual((await device.conversations()).conversations, []);
          assert.deepEqual(await device.texts(at(device), { chatType }), []);
        }
        const event = await t.event(phone, 'onMultiDeviceEvent');
        assert.deepEqual([event.operation, event.conversationId, event.conversationType], ['deleteConversation', at(jerry), chatType]);
        await t.barrier(jerry);
        assert.deepEqual(t.seen(jerry, 'onMultiDeviceEvent'), []);
        // What follows begins anew.
        await jerry.say(at(jerry), 'three', { chatType });
        assert.deepEqual(await tom.texts(at(tom), { chatType }), ['three']);
        assert.deepEqual(await jerry.texts(at(jerry), { chatType }), ['three']);
        const entry = await tom.entry(at(tom));
        assert.deepEqual([entry.text, entry.unread_num], ['three', 1]);
      }, kind === 'single' ? BOTH : {});

      scenario(`${kind}: for everybody, without the messages`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const phone = await t.open('tom');
        await tom.say(at(tom), 'one', { chatType });
        await tom.say(at(tom), 'two', { chatType });
        await tom.removeConversation(at(tom), false, chatType);
        for (const device of [tom, jerry, phone]) {
          assert.deepEqual(await device.list(), []);
          assert.deepEqual(await device.peers(), []);
          assert.deepEqual(await device.texts(at(device), { chatType }), ['one', 'two']);
        }
        const event = await t.event(phone, 'onMultiDeviceEvent');
        assert.deepEqual([event.operation, event.conversationId], ['deleteConversation', at(tom)]);
        await tom.say(at(tom), 'three', { chatType });
        const entry = await jerry.entry(at(jerry));
        assert.deepEqual([entry.text, entry.unread_num], ['three', 1]);
        assert.deepEqual(await jerry.texts(at(jerry), { chatType }), ['one', 'two', 'three']);
      }, kind === 'single' ? BOTH : {});

      scenario(`${kind}: the others hear of it`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        await tom.say(at(tom), 'one', { chatType });
        await tom.removeConversation(at(tom), true, chatType);
        const event = await t.event(jerry, 'onMultiDeviceEvent');
        assert.deepEqual([event.operation, event.conversationId, event.conversationType], ['deleteConversation', at(jerry), chatType]);
      });

      scenario(`${kind}: for oneself, with the messages`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const phone = await t.open('jerry');
        await tom.say(at(tom), 'one', { chatType });
        await jerry.removeConversation(at(jerry), true, chatType);
        for (const device of [jerry, phone]) {
          assert.deepEqual(await device.peers(), []);
          assert.deepEqual(await device.texts(at(device), { chatType }), []);
        }
        assert.deepEqual(await tom.peers(), [at(tom)]);
        assert.deepEqual(await tom.texts(at(tom), { chatType }), ['one']);
        assert.equal((await t.event(phone, 'onMultiDeviceEvent')).operation, 'deleteConversation');
        await t.barrier(tom);
        assert.deepEqual(t.seen(tom, 'onMultiDeviceEvent'), []);
        await tom.say(at(tom), 'two', { chatType });
        assert.deepEqual(await jerry.texts(at(jerry), { chatType }), ['two']);
        const entry = await jerry.entry(at(jerry));
        assert.deepEqual([entry.text, entry.unread_num], ['two', 1]);
        assert.deepEqual(await tom.texts(at(tom), { chatType }), ['one', 'two']);
      }, { ...OWN, ...(kind === 'single' ? BOTH : {}) });

      scenario(`${kind}: for oneself, without the messages`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        await tom.say(at(tom), 'one', { chatType });
        await jerry.removeConversation(at(jerry), false, chatType);
        assert.deepEqual(await jerry.peers(), []);
        assert.deepEqual(await tom.peers(), [at(tom)]);
        assert.deepEqual(await jerry.texts(at(jerry), { chatType }), ['one']);
        await tom.say(at(tom), 'two', { chatType });
        assert.equal((await jerry.entry(at(jerry))).text, 'two');
        assert.deepEqual(await jerry.texts(at(jerry), { chatType }), ['one', 'two']);
      }, OWN);

      scenario(`${kind}: a device that was away does not get what was deleted for everybody`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        await t.barrier(jerry);
        await jerry.close();
        await tom.say(at(tom), 'deleted', { chatType });
        await tom.removeConversation(at(tom), true, chatType);
        await tom.say(at(tom), 'kept', { chatType });
        await jerry.open({ accessToken: await t.rest.userToken(jerry.id) });
        await t.message(jerry, 'kept');
        await t.barrier(jerry);
        assert.deepEqual(t.messages(jerry), []);
      });
    }

    scenario('a group whose members may not delete for everybody', async t => {
      const { tom, jerry, group } = await talk(t, 'group');
      await tom.sayIn(group, 'one');
      await jerry.removeConversation(group, true, 'groupChat');
      assert.deepEqual(await jerry.peers(), []);
      assert.deepEqual(await jerry.texts(group, { chatType: 'groupChat' }), []);
      assert.deepEqual(await tom.peers(), [group]);
      assert.deepEqual(await tom.texts(group, { chatType: 'groupChat' }), ['one']);
      await tom.sayIn(group, 'two');
      await tom.removeConversation(group, true, 'groupChat');
      assert.deepEqual(await tom.texts(group, { chatType: 'groupChat' }), []);
      assert.deepEqual(await jerry.texts(group, { chatType: 'groupChat' }), []);
      assert.deepEqual(await jerry.peers(), []);
    }, ADMINS);

    scenario('the setting for groups leaves single chats alone', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await tom.say(jerry.id, 'one');
      await jerry.removeConversation(tom.id, true);
      assert.deepEqual(await tom.texts(jerry.id), []);
      assert.deepEqual(await tom.peers(), []);
    }, ADMINS);

    scenario('a conversation that is not there', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await tom.say(jerry.id, 'stays');
      const { data } = await tom.removeConversation(t.name('nobody'), true);
      assert.equal(data.result, 'ok');
      await tom.removeConversation(jerry.id, false);
      await tom.removeConversation(jerry.id, false);
      assert.deepEqual(await tom.texts(jerry.id), ['stays']);
    });

    scenario('a group that one is not in', async t => {
      const [tom, jerry, eve] = await t.openAll('tom', 'jerry', 'eve');
      const group = await t.rest.group(tom.id, [jerry.id]);
      await tom.sayIn(group, 'stays');
      await eve.removeConversation(group, true, 'groupChat').catch(() => {});
      assert.deepEqual(await tom.texts(group, { chatType: 'groupChat' }), ['stays']);
      assert.deepEqual(await jerry.peers(), [group]);
    });

    scenario('somebody else’s path', async t => {
      const [tom, jerry, eve] = await t.openAll('tom', 'jerry', 'eve');
      await tom.say(jerry.id, 'stays');
      const body = { channel: jerry.id, type: 'chat', delete_roam: true };
      await t.rest.fails(401, 'DELETE', `/users/${tom.id}/user_channel`, { body, ...bearer(eve) });
      assert.deepEqual(await tom.texts(jerry.id), ['stays']);
    });

    scenario('by the back end', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await tom.say(jerry.id, 'one');
      const body = { channel: jerry.id, type: 'chat', delete_roam: true };
      const answer = await t.rest.ok('DELETE', `/users/${tom.id}/user_channel`, { body });
      assert.deepEqual([answer.data.result, answer.path], ['ok', '/users/user_channel']);
      assert.deepEqual(await jerry.texts(tom.id), []);
      assert.equal((await t.event(tom, 'onMultiDeviceEvent')).operation, 'deleteConversation');
    });

    for (const [what, body, why] of [
      ['without a partner', { type: 'chat', delete_roam: true }, 'field channel cannot be null or empty'],
      ['without a type', { channel: 'jerry', delete_roam: true }, 'field type cannot be null or empty'],
      ['without a word on the messages', { channel: 'jerry', type: 'chat' }, 'field delete_roam cannot be null'],
      ['of nothing', {}, 'field channel cannot be null or empty'],
    ]) {
      scenario(`a request ${what}`, async t => {
        const tom = await t.open('tom');
        const answer = await t.rest.fails(400, 'DELETE', `/users/${tom.id}/user_channel`, { body, ...bearer(tom) });
        assert.equal(answer.error, 'illegal_argument');
        assert.equal(answer.error_description, why);
      });
    }

    scenario('a request that is no JSON', async t => {
      const tom = await t.open('tom');
      await t.rest.fails(400, 'DELETE', `/users/${tom.id}/user_channel`, { body: 'channel=jerry', ...bearer(tom) });
    });
  });
}
