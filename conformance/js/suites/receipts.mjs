// Delivered and read.

import assert from 'node:assert/strict';

import { create, KINDS, rawLogs, seenBy } from './shared.mjs';

export default function receipts(ring) {
  ring.suite('receipts', scenario => {
    for (const kind of KINDS) {
      scenario(`${kind}: delivered, then read`, async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        const message = await conversation.send(t.text(tom, 'x'), { receipt: true });
        const { CommandType } = tom.AV.Protocals;
        const isReceipt = ({ cmd }) => cmd === CommandType.rcp;
        const delivered = await t.push(tom, isReceipt, 'push rcp (delivered)');
        assert.equal(delivered.rcpMessage.id, message.id);
        assert.equal(delivered.rcpMessage.cid, conversation.id);
        assert.equal(delivered.rcpMessage.from, jerry.id);
        assert.ok(Number(delivered.rcpMessage.t) >= Number(message.timestamp));
        assert.ok(!delivered.rcpMessage.read);
        await (await seenBy(jerry, conversation)).read();
        const read = await t.push(tom, isReceipt, 'push rcp (read)');
        assert.equal(read.rcpMessage.read, true);
        assert.equal(read.rcpMessage.id, message.id);
        assert.equal(read.rcpMessage.from, jerry.id);
        const [item] = await rawLogs(t, tom, conversation);
        assert.ok(Number(item.ackAt) >= Number(message.timestamp));
        assert.ok(Number(item.readAt) >= Number(message.timestamp));
      });

      scenario(`${kind}: the newest receipt times can be asked for`, async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        const message = await conversation.send(t.text(tom, 'x'));
        await t.message(jerry, 'x');
        await (await seenBy(jerry, conversation)).read();
        await t.until('the server knows both', async () => {
          await conversation.fetchReceiptTimestamps();
          return conversation.lastReadAt >= message.timestamp && conversation.lastDeliveredAt >= message.timestamp;
        });
      });

      scenario(`${kind}: every member's receipt times, at any size`, async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const mary = await t.open('mary');
        const conversation = await create(t, kind, tom, 'jerry', 'mary', 'william');
        const message = await conversation.send(t.text(tom, 'x'));
        await t.message(mary, 'x');
        await (await seenBy(jerry, conversation)).read();
        await t.until('jerry has read it', async () => {
          const tuples = await conversation._fetchAllReceiptTimestamps();
          const jerrys = tuples.find(({ pid }) => pid === jerry.id);
          return jerrys?.lastReadAt >= message.timestamp;
        });
        await t.until('mary has got it', async () => {
          const tuples = await conversation._fetchAllReceiptTimestamps();
          const marys = tuples.find(({ pid }) => pid === mary.id);
          return marys?.lastDeliveredAt >= message.timestamp && !(marys.lastReadAt >= message.timestamp);
        });
        const tuples = await conversation._fetchAllReceiptTimestamps();
        assert.ok(!tuples.some(({ pid }) => pid === tom.id), 'only the other members');
      });
    }

    scenario('no receipt was asked for, none is given', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const first = await conversation.send(t.text(tom, 'without'));
      await conversation.send(t.text(tom, 'with'), { receipt: true });
      await t.message(jerry, 'with');
      const { CommandType } = tom.AV.Protocals;
      const delivered = await t.push(tom, ({ cmd }) => cmd === CommandType.rcp, 'push rcp');
      assert.notEqual(delivered.rcpMessage.id, first.id);
    });

    scenario('none in conversations of more than two', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry', 'mary');
      await conversation.send(t.text(tom, 'x'), { receipt: true });
      await t.message(jerry, 'x');
      await t.until('jerry has got it', async () => {
        const tuples = await conversation._fetchAllReceiptTimestamps();
        return tuples.some(({ pid, lastDeliveredAt }) => pid === jerry.id && lastDeliveredAt);
      });
      await t.barrier(tom);
      const { CommandType } = tom.AV.Protocals;
      assert.ok(!t.pushes(tom).some(({ cmd }) => cmd === CommandType.rcp));
    });
  });
}
