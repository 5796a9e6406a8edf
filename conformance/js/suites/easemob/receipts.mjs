// Delivery, read, conversation and group receipts.

import assert from 'node:assert/strict';

import { BOTH, KINDS, talk } from './shared.mjs';

const readAck = (to, id, more = {}) => ({ type: 'read', chatType: 'singleChat', to, id, ...more });

export default function receipts(ring) {
  ring.suite('easemob-receipts', scenario => {
    scenario('a delivered message is reported by itself', async t => {
      const { tom, jerry } = await talk(t, 'single', { jerry: { delivery: true } });
      const id = await tom.say(jerry.id, 'are you there?');
      await t.message(jerry, 'are you there?');
      const receipt = await t.event(tom, 'onDeliveredMessage');
      assert.deepEqual([receipt.mid, receipt.from, receipt.to], [id, jerry.id, tom.id]);
    }, BOTH);

    scenario('a read message', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const id = await tom.say(jerry.id, 'read this');
      await t.message(jerry, 'read this');
      await jerry.conn.send(jerry.create(readAck(tom.id, id)));
      const receipt = await t.event(tom, 'onReadMessage');
      assert.deepEqual([receipt.mid, receipt.from, receipt.to], [id, jerry.id, tom.id]);
      assert.deepEqual(await tom.texts(jerry.id), ['read this']);
      assert.equal((await tom.entry(jerry.id)).text, 'read this');
    }, BOTH);

    scenario('receipts wait for a sender who is away', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const id = await tom.say(jerry.id, 'read this');
      await t.message(jerry, 'read this');
      await t.barrier(tom);
      await tom.close();
      await jerry.conn.send(jerry.create(readAck(tom.id, id)));
      await tom.open({ accessToken: await t.rest.userToken(tom.id) });
      const receipt = await t.event(tom, 'onReadMessage');
      assert.equal(receipt.mid, id);
      await t.barrier(tom);
      assert.deepEqual(t.seen(tom, 'onReadMessage'), []);
    });

    scenario('a receipt reaches every device of the sender', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const phone = await t.open('tom');
      const id = await tom.say(jerry.id, 'read this');
      await t.message(jerry, 'read this');
      await jerry.conn.send(jerry.create(readAck(tom.id, id)));
      assert.equal((await t.event(tom, 'onReadMessage')).mid, id);
      assert.equal((await t.event(phone, 'onReadMessage')).mid, id);
    });

    for (const kind of KINDS) {
      scenario(`${kind}: a conversation that was read`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const phone = await t.open('jerry');
        for (const text of ['one', 'two', 'three']) await tom.say(at(tom), text, { chatType });
        await t.message(jerry, 'three');
        assert.equal((await jerry.entry(at(jerry))).unread_num, 3);
        await jerry.readAll(at(jerry), chatType);
        assert.equal((await jerry.entry(at(jerry))).unread_num, 0);
        assert.equal((await phone.conversations()).conversations[0].unReadCount, 0);
        const copy = await t.event(phone, 'onChannelMessage');
        assert.deepEqual([copy.from, copy.to], [jerry.id, at(jerry)]);
        if (kind === 'single') {
          const told = await t.event(tom, 'onChannelMessage');
          assert.deepEqual([told.from, told.to], [jerry.id, tom.id]);
        } else {
          await t.barrier(tom);
          assert.deepEqual(t.seen(tom, 'onChannelMessage'), []);
        }
        await tom.say(at(tom), 'four', { chatType });
        await t.message(jerry, 'four');
        assert.equal((await jerry.entry(at(jerry))).unread_num, 1);
      }, kind === 'single' ? BOTH : {});

      scenario(`${kind}: one's own messages are never unread`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        await tom.say(at(tom), 'one', { chatType });
        await jerry.say(at(jerry), 'two', { chatType });
        await jerry.say(at(jerry), 'three', { chatType });
        assert.equal((await tom.entry(at(tom))).unread_num, 2);
        assert.equal((await jerry.entry(at(jerry))).unread_num, 1);
      });
    }

    scenario('who has read a group message', async t => {
      const [tom, jerry, mary] = await t.openAll('tom', 'jerry', 'mary');
      const group = await t.rest.group(tom.id, [jerry.id, mary.id]);
      const id = await tom.sayIn(group, 'please confirm', { msgConfig: { allowGroupAck: true } });
      for (const [reader, count] of [
        [jerry, 1],
        [mary, 2],
      ]) {
        const received = await t.message(reader, 'please confirm');
        assert.equal(received.msgConfig.allowGroupAck, true);
        await reader.conn.send(reader.create(readAck(group, id, { chatType: 'groupChat', ackContent: JSON.stringify({ by: reader.id }) })));
        const receipt = await t.event(tom, 'onReadMessage');
        assert.equal(receipt.mid, id);
        assert.deepEqual(receipt.groupReadCount, { [id]: count });
        assert.equal(receipt.ackContent, JSON.stringify({ by: reader.id }));
      }
      await t.barrier(jerry);
      assert.deepEqual(t.seen(jerry, 'onReadMessage'), []);
      // The list of readers is not offered.
      await t.refused(tom.conn.getGroupMsgReadUser({ groupId: group, msgId: id }), 505);
    });
  });
}
