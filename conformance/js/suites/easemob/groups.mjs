// Groups: their life, their members, what the SDK asks about them, and what members hear.

import assert from 'node:assert/strict';

import { BOTH } from './shared.mjs';

const groupEvent = (t, device, operation, group) =>
  t.event(device, 'onGroupEvent', event => event.operation === operation && event.id === group, `onGroupEvent ${operation}`);

/** A group that `device` makes with the SDK; gives its id. */
async function make(device, members, more = {}) {
  const { data } = await device.conn.createGroup({
    data: {
      groupname: '蛋糕店',
      desc: 'a shop for cakes',
      members,
      public: false,
      approval: false,
      allowinvites: true,
      inviteNeedConfirm: false,
      maxusers: 50,
      ext: '{"floor":1}',
      ...more,
    },
  });
  assert.match(data.groupid, /^\d+$/);
  return data.groupid;
}

async function members(t, group) {
  const { data } = await t.rest.ok('GET', `/chatgroups/${group}/users?pagenum=1&pagesize=100`);
  return data.map(entry => entry.owner ?? entry.member ?? entry.admin).sort();
}

export default function groups(ring) {
  ring.suite('easemob-groups', scenario => {
    scenario('creating one: members are in it and hear of it', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const phone = await t.open('tom');
      const group = await make(tom, [jerry.id]);
      const joined = await groupEvent(t, jerry, 'directJoined', group);
      assert.equal(joined.from, tom.id);
      assert.equal(joined.name, '蛋糕店');
      assert.equal((await groupEvent(t, phone, 'create', group)).from, tom.id);
      await jerry.sayIn(group, 'here I am');
      await t.message(tom, 'here I am');
    }, BOTH);

    scenario('what it is like', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const before = Date.now();
      const group = await make(tom, [jerry.id]);
      const { data: [info] } = await jerry.conn.getGroupInfo({ groupId: group });
      assert.deepEqual(
        [info.id, info.name, info.description, info.owner, info.public, info.allowinvites, info.membersonly, info.maxusers, info.custom, info.affiliations_count],
        [group, '蛋糕店', 'a shop for cakes', tom.id, false, true, false, 50, '{"floor":1}', 2],
      );
      assert.ok(Math.abs(info.created - before) < 60_000);
      const roles = info.affiliations.map(entry => [entry.owner ?? null, entry.member ?? null]);
      assert.deepEqual(roles.sort(), [[null, jerry.id], [tom.id, null]].sort());
    }, BOTH);

    scenario('since when its members are in it', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const before = Date.now();
      const group = await make(tom, [jerry.id]);
      const { data: [info] } = await jerry.conn.getGroupInfo({ groupId: group });
      assert.ok(info.affiliations.every(({ joined_time: at }) => Math.abs(at - before) < 60_000), JSON.stringify(info.affiliations));
      const { data } = await tom.conn.getGroupMembers({ groupId: group, limit: 50 });
      assert.ok(data.members.every(({ joinedTime: at }) => Math.abs(at - before) < 60_000), JSON.stringify(data.members));
    });

    scenario('several at once, and one that is not there', async t => {
      const tom = await t.open('tom');
      const one = await make(tom, []);
      const two = await make(tom, []);
      const { data } = await tom.conn.getGroupInfo({ groupId: [one, two] });
      assert.deepEqual(data.map(({ id }) => id).sort(), [one, two].sort());
      await t.refused(tom.conn.getGroupInfo({ groupId: '123456789012' }), 605);
    });

    scenario('who is in it', async t => {
      const [tom] = await t.openAll('tom');
      const others = await t.people('a', 'b', 'c');
      const group = await make(tom, others);
      const { data } = await tom.conn.listGroupMembers({ groupId: group, pageNum: 1, pageSize: 20 });
      assert.deepEqual(data.filter(({ owner }) => owner).map(({ owner }) => owner), [tom.id]);
      assert.deepEqual(data.filter(({ member }) => member).map(({ member }) => member).sort(), [...others].sort());
      const first = await tom.conn.listGroupMembers({ groupId: group, pageNum: 1, pageSize: 3 });
      const second = await tom.conn.listGroupMembers({ groupId: group, pageNum: 2, pageSize: 3 });
      assert.equal(first.data.length, 3);
      assert.equal(second.data.length, 1);
      const { data: modern } = await tom.conn.getGroupMembers({ groupId: group, limit: 50 });
      const list = modern.members ?? modern;
      assert.deepEqual(list.map(({ role, userId }) => `${role} ${userId}`).sort(), [`owner ${tom.id}`, ...others.map(name => `member ${name}`)].sort());
    });

    scenario('which ones one is in, in all three forms', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const own = await make(tom, [jerry.id]);
      const other = await make(jerry, [tom.id]);
      const { data: old } = await tom.conn.getGroup();
      assert.deepEqual(old.map(({ groupid }) => groupid).sort(), [own, other].sort());
      assert.ok(old.every(({ groupname }) => groupname === '蛋糕店'));
      const { data: plain } = await tom.conn.getJoinedGroups({ pageNum: 0, pageSize: 20 });
      assert.deepEqual(plain.map(({ groupid, groupname }) => [groupid, groupname]).sort(), [[own, '蛋糕店'], [other, '蛋糕店']].sort());
      const { entities } = await tom.conn.getJoinedGroups({ pageNum: 0, pageSize: 20, needAffiliations: true, needRole: true });
      assert.deepEqual(
        entities.map(entry => [entry.groupId, entry.groupName, entry.role, entry.affiliationsCount, entry.description, entry.maxUsers, entry.public]).sort(),
        [
          [own, '蛋糕店', 'owner', 2, 'a shop for cakes', 50, false],
          [other, '蛋糕店', 'member', 2, 'a shop for cakes', 50, false],
        ].sort(),
      );
      const { entities: page } = await tom.conn.getJoinedGroups({ pageNum: 1, pageSize: 1, needAffiliations: true, needRole: true });
      assert.equal(page.length, 1);
      assert.equal((await tom.conn.getJoinedGroupsCount()).data, 2);
    });

    scenario('none at all', async t => {
      const tom = await t.open('tom');
      assert.deepEqual((await tom.conn.getGroup()).data, []);
      assert.deepEqual((await tom.conn.getJoinedGroups({ pageNum: 0, pageSize: 20 })).data, []);
      const { entities } = await tom.conn.getJoinedGroups({ pageNum: 0, pageSize: 20, needAffiliations: true, needRole: true });
      assert.deepEqual(entities, []);
      assert.equal((await tom.conn.getJoinedGroupsCount()).data, 0);
    });

    scenario('a new name and a new description', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const group = await make(tom, [jerry.id]);
      const { data } = await tom.conn.modifyGroup({ groupId: group, groupName: '面包店', description: 'bread', ext: '{}' });
      assert.equal(data.groupname, true);
      assert.equal(data.description, true);
      const event = await groupEvent(t, jerry, 'updateInfo', group);
      assert.equal(event.from, tom.id);
      assert.equal(event.detail.name, '面包店');
      assert.equal(event.detail.description, 'bread');
      const { data: [info] } = await jerry.conn.getGroupInfo({ groupId: group });
      assert.deepEqual([info.name, info.description, info.custom], ['面包店', 'bread', '{}']);
      await t.refused(jerry.conn.modifyGroup({ groupId: group, groupName: '肉店' }), 603);
    }, BOTH);

    scenario('inviting somebody', async t => {
      const [tom, jerry, mary] = await t.openAll('tom', 'jerry', 'mary');
      const group = await make(tom, [jerry.id]);
      const { data } = await tom.conn.inviteUsersToGroup({ groupId: group, users: [mary.id] });
      assert.equal(data[0].result, true);
      assert.equal(data[0].user, mary.id);
      const joined = await groupEvent(t, mary, 'directJoined', group);
      assert.equal(joined.from, tom.id);
      const event = await t.event(
        jerry,
        'onGroupEvent',
        ({ operation, id }) => id === group && ['memberPresence', 'membersPresence'].includes(operation),
      );
      assert.deepEqual(event.members ?? [event.from], [mary.id]);
      await tom.sayIn(group, 'welcome');
      await t.message(mary, 'welcome');
      assert.deepEqual(await members(t, group), [tom.id, jerry.id, mary.id].sort());
    }, BOTH);

    scenario('an open group is joined by asking', async t => {
      const [tom, mary] = await t.openAll('tom', 'mary');
      const group = await make(tom, [], { public: true });
      const { data } = await mary.conn.joinGroup({ groupId: group, message: 'may I?' });
      assert.equal(data.result, true);
      await mary.sayIn(group, 'thank you');
      await t.message(tom, 'thank you');
      const { data: open } = await mary.conn.listGroups({ limit: 20, cursor: '' });
      assert.ok(Array.isArray(open));
    });

    scenario('a closed group is not', async t => {
      const [tom, eve] = await t.openAll('tom', 'eve');
      const group = await make(tom, []);
      await t.refused(eve.conn.joinGroup({ groupId: group, message: 'may I?' }), 603);
      assert.deepEqual(await members(t, group), [tom.id]);
    });

    scenario('sending a member away', async t => {
      const [tom, jerry, mary] = await t.openAll('tom', 'jerry', 'mary');
      const group = await make(tom, [jerry.id, mary.id]);
      const { data } = await tom.conn.removeGroupMember({ groupId: group, username: jerry.id });
      assert.equal(data.result, true);
      assert.equal((await groupEvent(t, jerry, 'removeMember', group)).from, tom.id);
      assert.equal((await groupEvent(t, mary, 'memberAbsence', group)).from, jerry.id);
      await t.refused(jerry.sayIn(group, 'let me in'), 602);
      await tom.sayIn(group, 'he is gone');
      await t.message(mary, 'he is gone');
      await t.barrier(jerry);
      assert.deepEqual(t.messages(jerry), []);
    }, BOTH);

    scenario('sending several away, one of whom is not there', async t => {
      const [tom] = await t.openAll('tom');
      const [a, b, c] = await t.people('a', 'b', 'c');
      const group = await make(tom, [a, b, c]);
      const stranger = t.name('stranger');
      const { data } = await tom.conn.removeGroupMembers({ groupId: group, users: [a, b, stranger] });
      assert.deepEqual(data.map(({ user, result }) => [user, result]).sort(), [[a, true], [b, true], [stranger, false]].sort());
      assert.deepEqual(await members(t, group), [tom.id, c].sort());
    });

    scenario('a member cannot send others away', async t => {
      const [tom, jerry, mary] = await t.openAll('tom', 'jerry', 'mary');
      const group = await make(tom, [jerry.id, mary.id]);
      await t.refused(jerry.conn.removeGroupMember({ groupId: group, username: mary.id }), 603);
      await t.refused(jerry.conn.removeGroupMember({ groupId: group, username: tom.id }), 603);
      await t.refused(jerry.conn.destroyGroup({ groupId: group }), 603);
      await t.refused(jerry.conn.changeGroupOwner({ groupId: group, newOwner: jerry.id }), 603);
      assert.deepEqual(await members(t, group), [tom.id, jerry.id, mary.id].sort());
    });

    scenario('leaving', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const group = await make(tom, [jerry.id]);
      const { data } = await jerry.conn.leaveGroup({ groupId: group });
      assert.equal(data.result, true);
      assert.equal((await groupEvent(t, tom, 'memberAbsence', group)).from, jerry.id);
      await t.refused(jerry.sayIn(group, 'one more thing'), 602);
      assert.deepEqual((await jerry.conn.getGroup()).data, []);
      assert.deepEqual(await members(t, group), [tom.id]);
    }, BOTH);

    scenario('the owner cannot leave', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const group = await make(tom, [jerry.id]);
      await t.refused(tom.conn.leaveGroup({ groupId: group }), 603);
      assert.deepEqual(await members(t, group), [tom.id, jerry.id].sort());
    });

    scenario('handing it over', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const group = await make(tom, [jerry.id]);
      const { data } = await tom.conn.changeGroupOwner({ groupId: group, newOwner: jerry.id });
      assert.equal(data.newowner, true);
      assert.equal((await groupEvent(t, jerry, 'changeOwner', group)).from, tom.id);
      const { data: [info] } = await tom.conn.getGroupInfo({ groupId: group });
      assert.equal(info.owner, jerry.id);
      await t.refused(tom.conn.destroyGroup({ groupId: group }), 603);
      await jerry.conn.destroyGroup({ groupId: group });
    });

    scenario('destroying it', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const group = await make(tom, [jerry.id]);
      await tom.sayIn(group, 'the end');
      const { data } = await tom.conn.destroyGroup({ groupId: group });
      assert.equal(data.success, true);
      assert.equal((await groupEvent(t, jerry, 'destroy', group)).from, tom.id);
      await t.refused(jerry.conn.getGroupInfo({ groupId: group }), 605);
      await t.refused(jerry.sayIn(group, 'hello?'), 605);
      assert.deepEqual((await jerry.conn.getGroup()).data, []);
      assert.deepEqual(await jerry.peers(), []);
    }, BOTH);

    scenario('members hear of it when they come back', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      await t.barrier(jerry);
      await jerry.close();
      const group = await make(tom, [jerry.id]);
      await tom.sayIn(group, 'hello');
      await jerry.open({ accessToken: await t.rest.userToken(jerry.id) });
      await groupEvent(t, jerry, 'directJoined', group);
      await t.message(jerry, 'hello');
      await t.barrier(jerry);
      assert.deepEqual(t.seen(jerry, 'onGroupEvent'), []);
    });

    scenario('by the back end: made, joined, left, destroyed', async t => {
      const [tom, jerry, mary] = await t.openAll('tom', 'jerry', 'mary');
      const group = await t.rest.group(tom.id, [jerry.id]);
      await groupEvent(t, jerry, 'directJoined', group);
      const { data: added } = await t.rest.ok('POST', `/chatgroups/${group}/users`, { body: { usernames: [mary.id, jerry.id] } });
      assert.deepEqual(added.newmembers, [mary.id]);
      await groupEvent(t, mary, 'directJoined', group);
      const again = await t.rest.fails(403, 'POST', `/chatgroups/${group}/users/${mary.id}`);
      assert.equal(again.error, 'forbidden_op');
      await t.rest.ok('DELETE', `/chatgroups/${group}/users/${jerry.id}`);
      await groupEvent(t, jerry, 'removeMember', group);
      await t.rest.ok('PUT', `/chatgroups/${group}`, { body: { groupname: 'another', description: 'name' } });
      assert.equal((await groupEvent(t, mary, 'updateInfo', group)).detail.name, 'another');
      await t.rest.ok('PUT', `/chatgroups/${group}`, { body: { newowner: mary.id } });
      const { data: [info] } = await t.rest.ok('GET', `/chatgroups/${group}`);
      assert.equal(info.owner, mary.id);
      await t.rest.ok('DELETE', `/chatgroups/${group}`);
      await groupEvent(t, mary, 'destroy', group);
      const gone = await t.rest.fails(404, 'GET', `/chatgroups/${group}`);
      assert.equal(gone.error_description, `grpID ${group} does not exist!`);
    });

    scenario('a group of people who are not there', async t => {
      const [tom] = await t.people('tom');
      const body = { groupname: 'x', description: 'x', public: false, owner: t.name('nobody') };
      const { error_description: why } = await t.rest.fails(404, 'POST', '/chatgroups', { body });
      assert.equal(why, `username ${t.name('nobody')} doesn't exist!`);
      await t.rest.fails(404, 'POST', '/chatgroups', { body: { ...body, owner: tom, members: [t.name('nobody')] } });
      await t.rest.fails(400, 'POST', '/chatgroups', { body: { owner: tom, groupname: 'x' } });
      const { data } = await t.rest.ok('GET', `/users/${tom}/joined_chatgroups`);
      assert.deepEqual(data, []);
    });

    scenario('a group that is full', async t => {
      const [tom] = await t.openAll('tom');
      const [a, b, c] = await t.people('a', 'b', 'c');
      const group = await make(tom, [a, b], { maxusers: 3 });
      await t.rest.fails(403, 'POST', `/chatgroups/${group}/users/${c}`);
      assert.deepEqual(await members(t, group), [tom.id, a, b].sort());
    });
  });
}
