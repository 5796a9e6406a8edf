// Messages taken back and messages edited.

import assert from 'node:assert/strict';

import { BOTH, KINDS, talk } from './shared.mjs';

const edit = (device, messageId, message) =>
  device.conn.modifyMessage({ messageId, modifiedMessage: device.create({ type: 'txt', ...message }) });

export default function changes(ring) {
  ring.suite('easemob-recall', scenario => {
    for (const kind of KINDS) {
      scenario(`${kind}: a message taken back is gone everywhere`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const phone = await t.open('tom');
        await tom.say(at(tom), 'stays', { chatType });
        const id = await tom.say(at(tom), 'regret', { chatType });
        await t.message(jerry, 'regret');
        assert.equal((await jerry.entry(at(jerry))).unread_num, 2);
        await tom.conn.recallMessage({ mid: id, to: at(tom), chatType, ext: 'a slip' });
        for (const device of [jerry, phone]) {
          const recall = await t.event(device, 'onRecallMessage');
          assert.deepEqual([recall.mid, recall.from, recall.to, recall.ext], [id, tom.id, at(tom), 'a slip']);
        }
        for (const device of [tom, jerry]) {
          assert.deepEqual(await device.texts(at(device), { chatType }), ['stays']);
          const entry = await device.entry(at(device));
          assert.equal(entry.text, 'stays');
          assert.equal(entry.unread_num, device === tom ? 0 : 1);
        }
      }, kind === 'single' ? BOTH : {});

      scenario(`${kind}: a device that was away never sees the message`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        await t.barrier(jerry);
        await jerry.close();
        const id = await tom.say(at(tom), 'regret', { chatType });
        await tom.conn.recallMessage({ mid: id, to: at(tom), chatType });
        await tom.say(at(tom), 'next', { chatType });
        await jerry.open({ accessToken: await t.rest.userToken(jerry.id) });
        await t.message(jerry, 'next');
        await t.barrier(jerry);
        assert.deepEqual(t.messages(jerry), []);
        assert.deepEqual(await jerry.texts(at(jerry), { chatType }), ['next']);
      });
    }

    scenario('a device that was away hears of a message that it has', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const id = await tom.say(jerry.id, 'regret');
      await t.message(jerry, 'regret');
      await t.barrier(jerry);
      await jerry.close();
      await tom.conn.recallMessage({ mid: id, to: jerry.id, chatType: 'singleChat' });
      await jerry.open({ accessToken: await t.rest.userToken(jerry.id) });
      assert.equal((await t.event(jerry, 'onRecallMessage')).mid, id);
      await t.barrier(jerry);
      assert.deepEqual(t.seen(jerry, 'onRecallMessage'), []);
    });

    scenario('a conversation whose only message is taken back', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const id = await tom.say(jerry.id, 'regret');
      await tom.conn.recallMessage({ mid: id, to: jerry.id, chatType: 'singleChat' });
      assert.deepEqual(await jerry.peers(), []);
      assert.deepEqual(await jerry.texts(tom.id), []);
    });

    scenario('of somebody else', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const id = await tom.say(jerry.id, 'mine');
      await t.refused(jerry.conn.recallMessage({ mid: id, to: tom.id, chatType: 'singleChat' }), 603);
      assert.deepEqual(await jerry.texts(tom.id), ['mine']);
      await t.barrier(tom);
      assert.deepEqual(t.seen(tom, 'onRecallMessage'), []);
    });

    scenario("a group's owner takes back what a member wrote, a member does not", async t => {
      const [tom, jerry, mary] = await t.openAll('tom', 'jerry', 'mary');
      const group = await t.rest.group(tom.id, [jerry.id, mary.id]);
      const id = await jerry.sayIn(group, 'not so nice');
      await t.refused(mary.conn.recallMessage({ mid: id, to: group, chatType: 'groupChat' }), 603);
      await tom.conn.recallMessage({ mid: id, to: group, chatType: 'groupChat' });
      assert.equal((await t.event(jerry, 'onRecallMessage')).mid, id);
      assert.equal((await t.event(mary, 'onRecallMessage')).mid, id);
      assert.deepEqual(await mary.texts(group, { chatType: 'groupChat' }), []);
    });

    scenario('too late', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const id = await tom.say(jerry.id, 'carved in stone');
      const sent = Date.now();
      await t.until('the time is over', () => Date.now() - sent > 1_200);
      await t.refused(tom.conn.recallMessage({ mid: id, to: jerry.id, chatType: 'singleChat' }), 504);
      assert.deepEqual(await jerry.texts(tom.id), ['carved in stone']);
    }, { settings: { recall_window_seconds: 1 } });

    scenario('where it is switched off', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const id = await tom.say(jerry.id, 'stays');
      await t.refused(tom.conn.recallMessage({ mid: id, to: jerry.id, chatType: 'singleChat' }), 505);
      assert.deepEqual(await jerry.texts(tom.id), ['stays']);
    }, { settings: { recall_enabled: false } });

    scenario('of a message that is not there', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await t.refused(tom.conn.recallMessage({ mid: '1234567890123456789', to: jerry.id, chatType: 'singleChat' }), 1302);
      await tom.say(jerry.id, 'one');
      await t.refused(tom.conn.recallMessage({ mid: '1234567890123456789', to: jerry.id, chatType: 'singleChat' }), 1302);
    });

    scenario('by the back end', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const id = await tom.say(jerry.id, 'regret');
      await t.message(jerry, 'regret');
      const { data } = await t.rest.ok('POST', '/messages/msg_recall', {
        body: { msg_id: id, to: jerry.id, from: tom.id, chat_type: 'chat', force: true },
      });
      assert.equal(data.recalled, 'yes');
      assert.equal((await t.event(jerry, 'onRecallMessage')).mid, id);
      assert.equal((await t.event(tom, 'onRecallMessage')).mid, id);
      assert.deepEqual(await tom.texts(jerry.id), []);
    });
  });

  ring.suite('easemob-edit', scenario => {
    for (const kind of KINDS) {
      scenario(`${kind}: an edited text is the new one everywhere`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const phone = await t.open('tom');
        const id = await tom.say(at(tom), 'hullo', { chatType, ext: { k: 'old' } });
        const original = await t.message(jerry, 'hullo');
        const { message, modifiedInfo } = await edit(tom, id, { to: at(tom), chatType, msg: 'hello' });
        assert.deepEqual([message.id, message.msg, message.from, message.chatType, message.time], [id, 'hello', tom.id, chatType, original.time]);
        assert.deepEqual([modifiedInfo.operationCount, modifiedInfo.operatorId], [1, tom.id]);
        for (const device of [jerry, phone]) {
          const changed = await t.event(device, 'onModifiedMessage');
          assert.deepEqual(
            [changed.id, changed.msg, changed.from, changed.to, changed.chatType, changed.time],
            [id, 'hello', tom.id, at(tom), chatType, original.time],
          );
          assert.deepEqual([changed.modifiedInfo.operationCount, changed.modifiedInfo.operatorId], [1, tom.id]);
          assert.ok(changed.modifiedInfo.operationTime >= original.time);
        }
        const { messages } = await jerry.history(at(jerry), { chatType });
        assert.equal(messages.length, 1);
        assert.deepEqual([messages[0].id, messages[0].msg, messages[0].time], [id, 'hello', original.time]);
        assert.equal(messages[0].modifiedInfo.operationCount, 1);
        assert.deepEqual(messages[0].ext, { k: 'old' });
        assert.equal((await jerry.entry(at(jerry))).text, 'hello');
      }, kind === 'single' ? BOTH : {});
    }

    scenario('text and ext together', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const id = await tom.say(jerry.id, 'hullo', { ext: { k: 'old', other: 1 } });
      await t.message(jerry, 'hullo');
      await edit(tom, id, { to: jerry.id, msg: 'hello', ext: { k: 'new' } });
      const changed = await t.event(jerry, 'onModifiedMessage');
      assert.equal(changed.msg, 'hello');
      assert.equal(changed.ext.k, 'new');
      const { messages: [stored] } = await jerry.history(tom.id);
      assert.equal(stored.ext.k, 'new');
    });

    scenario('twice, and no more often than the app allows', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const id = await tom.say(jerry.id, 'one');
      await edit(tom, id, { to: jerry.id, msg: 'two' });
      const { modifiedInfo } = await edit(tom, id, { to: jerry.id, msg: 'three' });
      assert.equal(modifiedInfo.operationCount, 2);
      await t.refused(edit(tom, id, { to: jerry.id, msg: 'four' }), 50);
      assert.deepEqual(await jerry.texts(tom.id), ['three']);
    }, { settings: { edits_max: 2 } });

    scenario('a device that was away gets the new text only', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await t.barrier(jerry);
      await jerry.close();
      const id = await tom.say(jerry.id, 'hullo');
      await edit(tom, id, { to: jerry.id, msg: 'hello' });
      await jerry.open({ accessToken: await t.rest.userToken(jerry.id) });
      assert.equal((await t.message(jerry, 'hello')).id, id);
      await t.barrier(jerry);
      assert.deepEqual(t.messages(jerry), []);
    });

    scenario('a custom message', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const { serverMsgId: id } = await tom.send({ type: 'custom', to: jerry.id, customEvent: 'order', customExts: { state: 'open' } });
      await t.event(jerry, 'onCustomMessage');
      const modifiedMessage = tom.create({ type: 'custom', to: jerry.id, customEvent: 'order', customExts: { state: 'paid' } });
      await tom.conn.modifyMessage({ messageId: id, modifiedMessage });
      const changed = await t.event(jerry, 'onModifiedMessage');
      assert.deepEqual([changed.id, changed.customExts], [id, { state: 'paid' }]);
      const { messages: [stored] } = await jerry.history(tom.id);
      assert.deepEqual(stored.customExts, { state: 'paid' });
    });

    scenario('of somebody else, in a single chat and in a group', async t => {
      const { tom, jerry, group } = await talk(t, 'group');
      const single = await tom.say(jerry.id, 'mine');
      const inGroup = await tom.sayIn(group, 'mine');
      await t.refused(edit(jerry, single, { to: tom.id, msg: 'yours' }), 603);
      await t.refused(edit(jerry, inGroup, { to: group, chatType: 'groupChat', msg: 'yours' }), 603);
      assert.deepEqual(await tom.texts(jerry.id), ['mine']);
      assert.deepEqual(await tom.texts(group, { chatType: 'groupChat' }), ['mine']);
    });

    scenario('of a message that is not there', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await t.refused(edit(tom, '1234567890123456789', { to: jerry.id, msg: 'x' }), 1302);
    });

    scenario('where it is switched off', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const id = await tom.say(jerry.id, 'stays');
      await t.refused(edit(tom, id, { to: jerry.id, msg: 'x' }), 505);
      assert.deepEqual(await jerry.texts(tom.id), ['stays']);
    }, { settings: { edit_enabled: false } });
  });
}
