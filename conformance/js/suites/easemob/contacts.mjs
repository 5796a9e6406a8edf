// Contacts and the block list, as far as login and sending need them.

import assert from 'node:assert/strict';

import { BOTH } from './shared.mjs';

export default function contacts(ring) {
  ring.suite('easemob-contacts', scenario => {
    scenario('asking, and being accepted', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      await tom.conn.addContact(jerry.id, 'the mouse?');
      const invitation = await t.event(jerry, 'onContactInvited');
      assert.deepEqual([invitation.from, invitation.to, invitation.status], [tom.id, jerry.id, 'the mouse?']);
      assert.deepEqual((await tom.conn.getContacts()).data, []);
      await jerry.conn.acceptContactInvite(tom.id);
      const agreed = await t.event(tom, 'onContactAgreed');
      assert.equal(agreed.from, jerry.id);
      assert.deepEqual((await tom.conn.getContacts()).data, [jerry.id]);
      assert.deepEqual((await jerry.conn.getContacts()).data, [tom.id]);
    }, BOTH);

    scenario('asking, and being turned down', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      await tom.conn.addContact(jerry.id, 'the mouse?');
      await t.event(jerry, 'onContactInvited');
      await jerry.conn.declineContactInvite(tom.id);
      assert.equal((await t.event(tom, 'onContactRefuse')).from, jerry.id);
      assert.deepEqual((await tom.conn.getContacts()).data, []);
    });

    scenario('forgetting each other', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      await t.rest.ok('POST', `/users/${tom.id}/contacts/users/${jerry.id}`);
      assert.deepEqual((await jerry.conn.getContacts()).data, [tom.id]);
      await tom.conn.deleteContact(jerry.id);
      assert.equal((await t.event(jerry, 'onContactDeleted')).from, tom.id);
      assert.deepEqual((await jerry.conn.getContacts()).data, []);
      assert.deepEqual((await tom.conn.getContacts()).data, []);
    });

    scenario('with a remark', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      await t.rest.ok('POST', `/users/${tom.id}/contacts/users/${jerry.id}`);
      await tom.conn.setContactRemark({ userId: jerry.id, remark: 'the mouse' });
      const { data } = await tom.conn.getAllContacts();
      assert.deepEqual(data.map(({ userId, remark }) => [userId, remark]), [[jerry.id, 'the mouse']]);
      const [mary] = await t.people('mary');
      await t.refused(tom.conn.setContactRemark({ userId: mary, remark: 'x' }), 221);
      await t.refused(tom.conn.setContactRemark({ userId: t.name('nobody'), remark: 'x' }), 204);
    });

    scenario('who is blocked cannot send', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      assert.deepEqual((await jerry.conn.getBlocklist()).data, []);
      await jerry.conn.addUsersToBlocklist({ name: [tom.id] });
      assert.deepEqual((await jerry.conn.getBlocklist()).data, [tom.id]);
      await t.refused(tom.say(jerry.id, 'let me in'), 603);
      await t.barrier(jerry);
      assert.deepEqual(t.messages(jerry), []);
      assert.deepEqual(await jerry.texts(tom.id), []);
      assert.deepEqual(await tom.texts(jerry.id), []);
      assert.deepEqual(await tom.peers(), []);
      await jerry.conn.removeUserFromBlocklist({ name: [tom.id] });
      assert.deepEqual((await jerry.conn.getBlocklist()).data, []);
      await tom.say(jerry.id, 'thank you');
      await t.message(jerry, 'thank you');
    }, BOTH);

    scenario('blocking is one way, and not for groups', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const group = await t.rest.group(tom.id, [jerry.id]);
      const { data } = await t.rest.ok('POST', `/users/${jerry.id}/blocks/users`, { body: { usernames: [tom.id] } });
      assert.deepEqual(data, [tom.id]);
      await jerry.say(tom.id, 'I may');
      await t.message(tom, 'I may');
      await tom.sayIn(group, 'in the group');
      await t.message(jerry, 'in the group');
      await t.rest.ok('DELETE', `/users/${jerry.id}/blocks/users/${tom.id}`);
      await tom.say(jerry.id, 'again');
      await t.message(jerry, 'again');
    });

    scenario('of a user who is not there', async t => {
      const tom = await t.open('tom');
      await t.rest.fails(404, 'POST', `/users/${tom.id}/contacts/users/${t.name('nobody')}`);
      await t.rest.fails(404, 'GET', `/users/${t.name('nobody')}/contacts/users`);
      assert.deepEqual((await tom.conn.getContacts()).data, []);
    });
  });
}
