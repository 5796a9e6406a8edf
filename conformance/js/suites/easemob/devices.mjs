// Several devices of one user, kicks, logout, and coming back.

import assert from 'node:assert/strict';

import { BOTH } from './shared.mjs';

/** Whether the server holds a user for online. */
async function status(t, user) {
  const { data } = await t.rest.ok('GET', `/users/${user}/status`);
  return data[user];
}

/** Waits until the server took this device down, for the reason `type`. */
async function kicked(t, device, type) {
  const error = await t.event(device, 'onError', found => found.type === type, `onError ${type}`);
  const last = await t.event(device, 'onDisconnected');
  assert.equal(last?.type, type);
  assert.equal(device.conn.isOpened(), false);
  assert.deepEqual(t.seen(device, 'onReconnecting'), []);
  return error;
}

/**
 * Devices that have nothing left to pull. One whose socket closes while it still has something to
 * send reconnects, whatever it was told at the same moment.
 */
async function settled(t, ...found) {
  for (const device of found) {
    await t.barrier(device);
    await t.until('every queue is empty', () => device.conn._queues.length === 0);
  }
  return found;
}

export default function devices(ring) {
  ring.suite('easemob-devices', scenario => {
    scenario('several devices are online together', async t => {
      const [desk, phone, jerry] = await Promise.all([t.open('tom'), t.open('tom'), t.open('jerry')]);
      await jerry.say(desk.id, 'to all of you');
      await t.message(desk, 'to all of you');
      await t.message(phone, 'to all of you');
      assert.deepEqual(t.seen(desk, 'onDisconnected'), []);
      assert.deepEqual(t.seen(phone, 'onDisconnected'), []);
    }, BOTH);

    scenario('a user asks for the other devices', async t => {
      const desk = await t.open('tom');
      const phone = await t.open('tom');
      const { data } = await desk.conn.getSelfIdsOnOtherPlatform();
      assert.deepEqual(data, [`${phone.id}/${phone.resource}`]);
    });

    scenario('the same device again takes the place of the old one', async t => {
      const [before] = await settled(t, await t.open('tom', { deviceId: 'same' }));
      const after = t.device(before.id, { deviceId: 'same' });
      after.conn.setLoginInfoCustomExt('from the other room');
      await after.open({ accessToken: await t.rest.userToken(before.id) });
      const error = await kicked(t, before, 206);
      assert.equal(error.data?.loginInfoCustomExt, 'from the other room');
      const jerry = await t.open('jerry');
      await jerry.say(after.id, 'who is there?');
      await t.message(after, 'who is there?');
      assert.deepEqual(t.messages(before), []);
    });

    scenario('as many devices of a platform as the app allows', async t => {
      const [first] = await settled(t, await t.open('tom'));
      const second = await t.open('tom');
      await kicked(t, first, 206);
      assert.equal(second.conn.isOpened(), true);
    }, { settings: { devices_per_platform_max: 1 } });

    scenario('a user who is deleted', async t => {
      const [tom] = await settled(t, await t.open('tom'));
      await t.rest.ok('DELETE', `/users/${tom.id}`);
      await kicked(t, tom, 207);
      await t.rest.fails(404, 'GET', `/users/${tom.id}`);
    }, BOTH);

    scenario('a user whose password is changed', async t => {
      const [tom] = await settled(t, await t.open('tom'));
      await t.rest.ok('PUT', `/users/${tom.id}/password`, { body: { newpassword: 'fresh' } });
      await kicked(t, tom, 216);
    });

    scenario('a user whom the back end sends away from all devices', async t => {
      const [desk, phone] = await settled(t, await t.open('tom'), await t.open('tom'));
      const { data } = await t.rest.ok('GET', `/users/${desk.id}/disconnect`);
      assert.equal(data.result, true);
      await kicked(t, desk, 217);
      await kicked(t, phone, 217);
      assert.equal(await status(t, desk.id), 'offline');
    });

    scenario('a device that the back end sends away', async t => {
      const [desk, phone] = await settled(t, await t.open('tom'), await t.open('tom'));
      await t.rest.ok('DELETE', `/users/${desk.id}/disconnect/${desk.resource}`);
      await kicked(t, desk, 217);
      await t.barrier(phone);
      assert.equal(await status(t, desk.id), 'online');
    });

    scenario('logout', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      assert.equal(await status(t, tom.id), 'online');
      await tom.close();
      await t.event(tom, 'onDisconnected');
      await t.until('the server knows', async () => (await status(t, tom.id)) === 'offline');
      await jerry.say(tom.id, 'gone?');
      assert.deepEqual(t.messages(tom), []);
      await t.refused(tom.conn.send(tom.create({ type: 'txt', to: jerry.id, msg: 'no' })), 39);
    }, BOTH);

    scenario('logging in again with the same object', async t => {
      const tom = await t.open('tom');
      await tom.close();
      await tom.open({ accessToken: await t.rest.userToken(tom.id) });
      assert.deepEqual(await tom.peers(), []);
      const jerry = await t.open('jerry');
      await jerry.say(tom.id, 'welcome back');
      await t.message(tom, 'welcome back');
    });

    scenario('a socket that dies is replaced, and nothing is lost', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      await t.event(jerry, 'onConnected');
      await tom.say(jerry.id, 'before');
      await t.message(jerry, 'before');
      jerry.cut();
      await tom.say(jerry.id, 'between');
      await t.event(jerry, 'onReconnecting');
      await t.event(jerry, 'onConnected');
      await tom.say(jerry.id, 'after');
      await t.message(jerry, 'between');
      await t.message(jerry, 'after');
      await t.barrier(jerry);
      assert.deepEqual(t.messages(jerry), []);
      assert.equal(jerry.resource, `webim_web_${jerry.conn.deviceId}`);
    }, BOTH);

    scenario('a socket that dies ten times', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      await t.event(jerry, 'onConnected');
      for (let round = 0; round < 10; round += 1) {
        jerry.cut();
        await tom.say(jerry.id, `m${round}`);
        await t.event(jerry, 'onConnected');
        await t.message(jerry, `m${round}`);
      }
      await t.barrier(jerry);
      assert.deepEqual(t.messages(jerry), []);
      assert.equal((await tom.history(jerry.id)).messages.length, 10);
    });

    scenario('a page keeps its device in its storage', async t => {
      const tom = await t.open('tom', { kind: 'page', deviceId: null });
      const resource = tom.resource;
      assert.match(resource, /^webim_web_\d+$/);
      await t.event(tom, 'onConnected');
      tom.cut();
      await t.event(tom, 'onConnected');
      assert.equal(tom.resource, resource);
      await tom.close();
      await tom.open({ accessToken: await t.rest.userToken(tom.id) });
      assert.equal(tom.resource, resource);
    });

    scenario('a message to one of the own devices', async t => {
      const [desk, phone, tablet] = await Promise.all([t.open('tom'), t.open('tom'), t.open('tom')]);
      await desk.say(`${phone.id}/${phone.resource}`, 'just you');
      const received = await t.message(phone, 'just you');
      assert.equal(received.from, `${desk.id}/${desk.resource}`);
      await t.barrier(tablet);
      assert.deepEqual(t.messages(tablet), []);
    });

    scenario('a message to oneself reaches the other devices', async t => {
      const [desk, phone] = await Promise.all([t.open('tom'), t.open('tom')]);
      await desk.say(desk.id, 'note to self');
      const received = await t.message(phone, 'note to self');
      assert.equal(received.from, `${desk.id}/${desk.resource}`);
      await t.barrier(desk);
      assert.deepEqual(t.messages(desk), []);
      assert.deepEqual(await phone.texts(desk.id), ['note to self']);
    });

    scenario('who is online: many at once', async t => {
      const tom = await t.open('tom');
      const [jerry] = await t.people('jerry');
      const nobody = t.name('nobody');
      const { data } = await t.rest.ok('POST', '/users/batch/status', { body: { usernames: [tom.id, jerry, nobody] } });
      assert.deepEqual(data, [{ [tom.id]: 'online' }, { [jerry]: 'offline' }, { [nobody]: 'offline' }]);
    });
  });
}
