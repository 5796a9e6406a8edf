// Deleting messages for oneself: by ids, by time, everything.

import assert from 'node:assert/strict';

import { BOTH, KINDS, bearer, imported, nextMillisecond, talk } from './shared.mjs';

export default function removal(ring) {
  ring.suite('easemob-removal', scenario => {
    for (const kind of KINDS) {
      scenario(`${kind}: by ids, on all devices of the caller and for nobody else`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const phone = await t.open('jerry');
        const ids = [];
        for (const text of ['one', 'two', 'three', 'four']) ids.push(await tom.say(at(tom), text, { chatType }));
        await jerry.removeMessages(at(jerry), { chatType, messageIds: [ids[1], ids[3]] });
        for (const device of [jerry, phone]) {
          assert.deepEqual(await device.texts(at(device), { chatType }), ['one', 'three']);
          const entry = await device.entry(at(device));
          assert.equal(entry.text, 'three');
          assert.equal(entry.unread_num, 2);
        }
        assert.deepEqual(await tom.texts(at(tom), { chatType }), ['one', 'two', 'three', 'four']);
        assert.equal((await tom.entry(at(tom))).text, 'four');
        const event = await t.event(phone, 'onMultiDeviceEvent');
        assert.deepEqual(
          [event.operation, event.conversationId, event.chatType, event.resource],
          ['deleteRoaming', at(jerry), chatType, jerry.resource],
        );
        await t.barrier(jerry);
        assert.deepEqual(t.seen(jerry, 'onMultiDeviceEvent'), []);
        await t.barrier(tom);
        assert.deepEqual(t.seen(tom, 'onMultiDeviceEvent'), []);
        // A message that follows is there for everybody.
        await tom.say(at(tom), 'five', { chatType });
        assert.deepEqual(await jerry.texts(at(jerry), { chatType }), ['one', 'three', 'five']);
      }, kind === 'single' ? BOTH : {});

      scenario(`${kind}: before a time, strictly`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const phone = await t.open('jerry');
        const time = Date.now() - 60_000;
        const group = kind === 'group';
        for (let index = 0; index < 4; index += 1) {
          await imported(t, tom.id, at(tom), `m${index}`, time + index, { group });
        }
        await jerry.removeMessages(at(jerry), { chatType, beforeTimeStamp: time + 2 });
        assert.deepEqual(await jerry.texts(at(jerry), { chatType }), ['m2', 'm3']);
        assert.deepEqual(await tom.texts(at(tom), { chatType }), ['m0', 'm1', 'm2', 'm3']);
        const event = await t.event(phone, 'onMultiDeviceEvent');
        assert.deepEqual([event.operation, event.conversationId, event.chatType], ['deleteRoaming', at(jerry), chatType]);
      }, kind === 'single' ? BOTH : {});

      scenario(`${kind}: before a time, and what was unread before it`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        for (const text of ['m0', 'm1', 'm2']) {
          await tom.say(at(tom), text, { chatType });
          await nextMillisecond(t);
        }
        const { messages } = await jerry.history(at(jerry), { chatType, searchDirection: 'down' });
        await jerry.removeMessages(at(jerry), { chatType, beforeTimeStamp: messages[2].time });
        const entry = await jerry.entry(at(jerry));
        assert.deepEqual([entry.text, entry.unread_num], ['m2', 1]);
        assert.deepEqual(await jerry.texts(at(jerry), { chatType }), ['m2']);
        await tom.say(at(tom), 'm3', { chatType });
        assert.equal((await jerry.entry(at(jerry))).unread_num, 2);
      });

      scenario(`${kind}: up to a time and including it, by the back end`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const time = Date.now() - 60_000;
        const group = kind === 'group';
        for (let index = 0; index < 4; index += 1) {
          await imported(t, tom.id, at(tom), `m${index}`, time + index, { group });
        }
        const [word, key] = group ? ['group', 'groupId'] : ['chat', 'userId'];
        const path = `/rest/message/roaming/${word}/user/${jerry.id}/time?${key}=${at(jerry)}&delTime=${time + 2}`;
        const answer = await t.rest.ok('DELETE', path);
        assert.equal(answer.requestStatusCode, 'ok');
        assert.deepEqual(await jerry.texts(at(jerry), { chatType }), ['m3']);
        assert.deepEqual(await tom.texts(at(tom), { chatType }), ['m0', 'm1', 'm2', 'm3']);
      });

      scenario(`${kind}: when nothing is left, the conversation leaves the caller's list`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const one = await tom.say(at(tom), 'one', { chatType });
        const two = await tom.say(at(tom), 'two', { chatType });
        await jerry.removeMessages(at(jerry), { chatType, messageIds: [one, two] });
        assert.deepEqual(await jerry.peers(), []);
        assert.deepEqual(await jerry.list(), []);
        assert.deepEqual((await jerry.conversations()).conversations, []);
        assert.deepEqual(await tom.peers(), [at(tom)]);
        await tom.say(at(tom), 'three', { chatType });
        const entry = await jerry.entry(at(jerry));
        assert.deepEqual([entry.text, entry.unread_num], ['three', 1]);
      });
    }

    scenario('a read message leaves the unread number alone', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const old = await tom.say(jerry.id, 'old');
      await t.message(jerry, 'old');
      await jerry.readAll(tom.id);
      await tom.sayAll(jerry.id, 'new', 'newer');
      await jerry.removeMessages(tom.id, { messageIds: [old] });
      assert.equal((await jerry.entry(tom.id)).unread_num, 2);
    });

    scenario('one’s own messages', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const id = await tom.say(jerry.id, 'mine');
      await tom.removeMessages(jerry.id, { messageIds: [id] });
      assert.deepEqual(await tom.texts(jerry.id), []);
      assert.deepEqual(await jerry.texts(tom.id), ['mine']);
      assert.deepEqual(await tom.peers(), []);
      assert.equal((await jerry.entry(tom.id)).unread_num, 1);
    });

    scenario('a device that was away does not get what another removed', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const phone = await t.open('jerry');
      await t.barrier(phone);
      await phone.close();
      const id = await tom.say(jerry.id, 'removed');
      await tom.say(jerry.id, 'kept');
      await jerry.removeMessages(tom.id, { messageIds: [id] });
      await phone.open({ accessToken: await t.rest.userToken(jerry.id) });
      await t.message(phone, 'kept');
      await t.barrier(phone);
      assert.deepEqual(t.messages(phone), []);
    });

    scenario('ids of no message, of another conversation, twice', async t => {
      const [tom, jerry, mary] = await t.openAll('tom', 'jerry', 'mary');
      const id = await tom.say(jerry.id, 'stays');
      const other = await mary.say(jerry.id, 'elsewhere');
      await jerry.removeMessages(tom.id, { messageIds: ['1', '1234567890123456789', other] });
      assert.deepEqual(await jerry.texts(tom.id), ['stays']);
      assert.deepEqual(await jerry.texts(mary.id), ['elsewhere']);
      await jerry.removeMessages(tom.id, { messageIds: [id, id] });
      await jerry.removeMessages(tom.id, { messageIds: [id] });
      assert.deepEqual(await jerry.texts(tom.id), []);
    });

    scenario('somebody else cannot remove for me', async t => {
      const [tom, jerry, eve] = await t.openAll('tom', 'jerry', 'eve');
      const id = await tom.say(jerry.id, 'stays');
      const path = `/sdk/message/roaming/chat/user/${jerry.id}`;
      await t.rest.fails(401, 'DELETE', `${path}?userId=${tom.id}&msgIdList=${id}`, bearer(eve));
      await t.rest.fails(401, 'DELETE', `${path}/time?userId=${tom.id}&delTime=${Date.now() + 1_000}`, bearer(eve));
      await t.rest.fails(401, 'POST', `/sdk/message/roaming/user/${jerry.id}/delete/all`, bearer(eve));
      await eve.removeMessages(tom.id, { messageIds: [id] });
      assert.deepEqual(await jerry.texts(tom.id), ['stays']);
      assert.deepEqual(await tom.texts(jerry.id), ['stays']);
    });

    scenario('fifty ids at once, and not fifty-one', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const at = Date.now() - 100_000;
      const ids = [];
      for (let from = 0; from < 51; from += 17) {
        const some = Array.from({ length: 17 }, (_, index) => imported(t, tom.id, jerry.id, `m${from + index}`, at + from + index));
        ids.push(...(await Promise.all(some)));
      }
      const path = `/sdk/message/roaming/chat/user/${jerry.id}?userId=${tom.id}&msgIdList=`;
      const refusal = await t.rest.fails(400, 'DELETE', `${path}${ids.join(',')}`, bearer(jerry));
      assert.equal(refusal.error, 'param exception');
      assert.equal(refusal.error_description, 'delete msg list limit can not greater than 50');
      assert.equal((await jerry.texts(tom.id)).length, 50);
      const { requestStatusCode } = await t.rest.ok('DELETE', `${path}${ids.slice(0, 50).join(',')}`, bearer(jerry));
      assert.equal(requestStatusCode, 'ok');
      assert.deepEqual(await jerry.texts(tom.id), ['m50']);
    }, { timeout: 15_000 });

    for (const [what, path] of [
      ['without a partner', 'chat/user/{me}?msgIdList=1,2'],
      ['without ids', 'chat/user/{me}?userId=jerry'],
      ['with ids that are none', 'chat/user/{me}?userId=jerry&msgIdList=one,two'],
      ['without a time', 'chat/user/{me}/time?userId=jerry'],
      ['with a time that is none', 'chat/user/{me}/time?userId=jerry&delTime=now'],
      ['with a time before all time', 'chat/user/{me}/time?userId=jerry&delTime=-1'],
      ['without a group', 'group/user/{me}?msgIdList=1'],
      ['in another kind of chat', 'circle/user/{me}?userId=jerry&msgIdList=1'],
    ]) {
      scenario(`a request ${what}`, async t => {
        const tom = await t.open('tom');
        const url = `/sdk/message/roaming/${path.replace('{me}', tom.id)}`;
        const { status, body } = await t.rest.call('DELETE', url, bearer(tom));
        assert.ok([400, 404].includes(status), `${status} ${JSON.stringify(body)}`);
        assert.ok(body.error_description);
      });
    }

    scenario('everything', async t => {
      const [tom, jerry, mary] = await t.openAll('tom', 'jerry', 'mary');
      const phone = await t.open('jerry');
      const group = await t.rest.group(mary.id, [jerry.id]);
      await tom.say(jerry.id, 'one');
      await jerry.say(mary.id, 'two');
      await mary.sayIn(group, 'three');
      await jerry.conn.deleteAllMessagesAndConversations();
      for (const device of [jerry, phone]) {
        assert.deepEqual(await device.peers(), []);
        assert.deepEqual(await device.texts(tom.id), []);
        assert.deepEqual(await device.texts(mary.id), []);
        assert.deepEqual(await device.texts(group, { chatType: 'groupChat' }), []);
      }
      assert.deepEqual(await tom.texts(jerry.id), ['one']);
      assert.deepEqual(await mary.texts(jerry.id), ['two']);
      assert.deepEqual((await mary.peers()).sort(), [group, jerry.id].sort());
      await tom.say(jerry.id, 'again');
      const entry = await jerry.entry(tom.id);
      assert.deepEqual([entry.text, entry.unread_num], ['again', 1]);
      assert.deepEqual(await jerry.texts(tom.id), ['again']);
    });
  });
}
