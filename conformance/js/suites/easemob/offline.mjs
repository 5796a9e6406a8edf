// What waits for devices that are away: in order, once, and for how long.

import assert from 'node:assert/strict';

import { textsOf } from '../../lib/easemob/device.mjs';
import { BOTH, KINDS, imported, talk } from './shared.mjs';

/** Logs a device of the harness in again. */
async function back(t, device) {
  await device.open({ accessToken: await t.rest.userToken(device.id) });
  return device;
}

export default function offline(ring) {
  ring.suite('easemob-offline', scenario => {
    for (const kind of KINDS) {
      scenario(`${kind}: a returning device gets what it missed, in order and once`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        await tom.say(at(tom), 'before', { chatType });
        await t.message(jerry, 'before');
        await t.barrier(jerry);
        await jerry.close();
        const texts = Array.from({ length: 40 }, (_, index) => `m${index}`);
        for (const text of texts) await tom.say(at(tom), text, { chatType });
        await back(t, jerry);
        await t.event(jerry, 'onOfflineMessageSyncStart');
        await t.event(jerry, 'onOfflineMessageSyncFinish');
        await t.barrier(jerry);
        assert.deepEqual(textsOf(t.messages(jerry)), texts);
        for (const text of texts) await t.message(jerry, text);
        await jerry.close();
        await back(t, jerry);
        await t.barrier(jerry);
        assert.deepEqual(t.messages(jerry), []);
      }, BOTH);

      scenario(`${kind}: every device keeps its own place`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const phone = await t.open('jerry');
        await tom.say(at(tom), 'one', { chatType });
        await t.message(jerry, 'one');
        await t.message(phone, 'one');
        await t.barrier(phone);
        await phone.close();
        await tom.say(at(tom), 'two', { chatType });
        await t.message(jerry, 'two');
        await back(t, phone);
        await t.message(phone, 'two');
        await t.barrier(phone);
        assert.deepEqual(t.messages(phone), []);
        await t.barrier(jerry);
        assert.deepEqual(t.messages(jerry), []);
      });

      scenario(`${kind}: a device that was never seen gets what is recent`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        await tom.say(at(tom), 'recent', { chatType });
        await t.message(jerry, 'recent');
        await t.barrier(jerry);
        const fresh = await t.open('jerry');
        await t.message(fresh, 'recent');
        await t.barrier(fresh);
        assert.deepEqual(t.messages(fresh), []);
      });
    }

    scenario('several conversations at once', async t => {
      const [jerry, ...others] = await t.openAll('jerry', 'tom', 'mary', 'anna', 'peter');
      const group = await t.rest.group(others[0].id, [jerry.id]);
      await t.barrier(jerry);
      await jerry.close();
      for (const other of others) await other.sayAll(jerry.id, 'one', 'two', 'three');
      await others[0].sayIn(group, 'in the group');
      await back(t, jerry);
      await t.event(jerry, 'onOfflineMessageSyncFinish');
      await t.barrier(jerry);
      const received = t.messages(jerry);
      assert.equal(received.length, 13);
      for (const other of others) {
        const texts = textsOf(received.filter(({ from, chatType }) => from === other.id && chatType === 'singleChat'));
        assert.deepEqual(texts, ['one', 'two', 'three']);
      }
    });

    scenario('a user who was never online', async t => {
      const tom = await t.open('tom');
      const [jerry] = await t.people('jerry');
      await tom.sayAll(jerry, 'one', 'two');
      await tom.send({ type: 'cmd', action: 'ring', to: jerry });
      const fresh = await t.open('jerry');
      await t.event(fresh, 'onOfflineMessageSyncFinish');
      await t.event(fresh, 'onCmdMessage', ({ action }) => action === 'ring');
      await t.barrier(fresh);
      assert.deepEqual(textsOf(t.messages(fresh).filter(({ type }) => type === 'txt')), ['one', 'two']);
    }, BOTH);

    scenario('more than the hosted service keeps: 600 messages', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      await t.barrier(jerry);
      await jerry.close();
      const texts = Array.from({ length: 600 }, (_, index) => `m${index}`);
      for (let from = 0; from < texts.length; from += 100) {
        await Promise.all(texts.slice(from, from + 100).map(text => tom.say(jerry.id, text)));
      }
      await back(t, jerry);
      await t.event(jerry, 'onOfflineMessageSyncFinish');
      await t.message(jerry, 'm599');
      await t.barrier(jerry);
      const received = t.messages(jerry);
      assert.equal(received.length, 599);
      assert.deepEqual(textsOf(received), texts.slice(0, -1));
    }, { timeout: 20_000 });

    scenario('the connection dies in the middle of it', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      await t.barrier(jerry);
      await jerry.close();
      const texts = Array.from({ length: 200 }, (_, index) => `m${index}`);
      for (let from = 0; from < texts.length; from += 100) {
        await Promise.all(texts.slice(from, from + 100).map(text => tom.say(jerry.id, text)));
      }
      await back(t, jerry);
      await t.message(jerry, 'm0');
      jerry.cut();
      await t.message(jerry, 'm199');
      await t.barrier(jerry);
      // The SDK forgets ids of more than a hundred messages ago: what was not acknowledged may come twice.
      const received = textsOf(t.messages(jerry));
      const distinct = new Set(received);
      for (const text of texts.slice(1, -1)) assert.ok(distinct.has(text), `${text} is lost`);
      await jerry.close();
      await back(t, jerry);
      await t.barrier(jerry);
      assert.equal(t.messages(jerry).length, received.length, 'everything was acknowledged');
    }, { timeout: 15_000 });

    scenario('an imported message waits for nobody', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      await imported(t, tom.id, jerry.id, 'from the old service', Date.now() - 5_000);
      await t.barrier(jerry);
      assert.deepEqual(t.messages(jerry), []);
      const fresh = await t.open('jerry');
      await t.barrier(fresh);
      assert.deepEqual(t.messages(fresh), []);
      assert.deepEqual(await jerry.texts(tom.id), ['from the old service']);
    });

    scenario('where new devices begin with nothing', async t => {
      const tom = await t.open('tom');
      const [jerry] = await t.people('jerry');
      await tom.say(jerry, 'too early');
      const fresh = await t.open('jerry');
      await t.barrier(fresh);
      assert.deepEqual(t.messages(fresh), []);
      await tom.say(jerry, 'in time');
      await t.message(fresh, 'in time');
      assert.deepEqual(await fresh.texts(tom.id), ['too early', 'in time']);
    }, { settings: { new_device_days: 0 } });
  });
}
