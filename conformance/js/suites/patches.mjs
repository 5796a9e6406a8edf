// Modifying and recalling messages.

import assert from 'node:assert/strict';

import { create, KINDS, rawLogs, seenBy, sendTexts } from './shared.mjs';

function modify(t, client, patch) {
  return t.raw(client, {
    cmd: 'patch',
    op: 'modify',
    patchMessage: { patches: [{ recall: false, mentionAll: false, ...patch }] },
  });
}

export default function patches(ring) {
  ring.suite('modify and recall', scenario => {
    for (const kind of KINDS) {
      scenario(`${kind}: a modified message reaches all other devices and the history`, async t => {
        const tom = await t.open('tom');
        const toms = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        const [sent] = await sendTexts(t, tom, conversation, 'before');
        await t.message(jerry, 'before');
        await conversation.update(sent, t.text(tom, 'after').setMentionList([jerry.id]));
        for (const client of [jerry, toms]) {
          const [changed, where] = await t.event(client, 'messageupdate');
          assert.equal(changed.id, sent.id);
          assert.equal(changed.text, 'after');
          assert.equal(changed.from, tom.id);
          assert.equal(where.id, conversation.id);
          assert.ok(changed.updatedAt >= changed.timestamp);
        }
        await t.barrier(tom);
        assert.deepEqual(t.seen(tom, 'messageupdate'), []);
        const [item] = await rawLogs(t, jerry, conversation);
        assert.equal(JSON.parse(item.data)._lctext, 'after');
        assert.deepEqual(item.mentionPids, [jerry.id]);
        assert.ok(Number(item.patchTimestamp) >= Number(sent.timestamp));
        assert.equal(Number(item.timestamp), Number(sent.timestamp));
      });

      scenario(`${kind}: a recalled message has the body that SDKs know`, async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        const [sent] = await sendTexts(t, tom, conversation, 'oops');
        await t.message(jerry, 'oops');
        await conversation.recall(sent);
        const { CommandType } = jerry.AV.Protocals;
        const push = await t.push(jerry, ({ cmd }) => cmd === CommandType.patch, 'push patch');
        const [patch] = push.patchMessage.patches;
        assert.equal(patch.recall, true);
        assert.equal(patch.mid, sent.id);
        assert.equal(patch.from, tom.id);
        assert.equal(JSON.parse(patch.data)._lctype, -127);
        assert.ok(Number(patch.patchTimestamp) > 0);
        assert.equal(patch.patchCode, null);
        const [item] = await rawLogs(t, jerry, conversation);
        assert.equal(JSON.parse(item.data)._lctype, -127);
        assert.equal(item.msgId, sent.id);
      });

      scenario(`${kind}: changes are replayed to one who was away`, async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        const [one, two] = await sendTexts(t, tom, conversation, 'one', 'two');
        await t.message(jerry, 'two');
        t.lose(jerry);
        await conversation.update(one, t.text(tom, 'changed'));
        await conversation.recall(two);
        await t.comeBack(jerry);
        const [changed] = await t.event(jerry, 'messageupdate');
        assert.equal(changed.id, one.id);
        assert.equal(changed.text, 'changed');
        const [recalled] = await t.event(jerry, 'messagerecall');
        assert.equal(recalled.id, two.id);
        await t.drop(jerry);
        await t.barrier(jerry);
        assert.deepEqual(t.seen(jerry, 'messageupdate'), []);
        assert.deepEqual(t.seen(jerry, 'messagerecall'), []);
      });
    }

    scenario('the answer names the time of the change', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const [sent] = await sendTexts(t, tom, conversation, 'x');
      const answer = await modify(t, tom, {
        cid: conversation.id,
        mid: sent.id,
        timestamp: Number(sent.timestamp),
        data: 'y',
      });
      assert.equal(answer.op, tom.AV.Protocals.OpType.modified);
      assert.ok(Number(answer.patchMessage.lastPatchTime) > 0);
    });

    scenario('binary content may be modified', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const sent = await conversation.send(new tom.AV.BinaryMessage(Uint8Array.of(1, 2).buffer));
      await t.event(jerry, 'message');
      await conversation.update(sent, new tom.AV.BinaryMessage(Uint8Array.of(3, 255).buffer));
      const { CommandType } = jerry.AV.Protocals;
      const push = await t.push(jerry, ({ cmd }) => cmd === CommandType.patch, 'push patch');
      const [patch] = push.patchMessage.patches;
      assert.deepEqual(new Uint8Array(patch.binaryMsg.toArrayBuffer()), Uint8Array.of(3, 255));
      const [item] = await rawLogs(t, jerry, conversation);
      assert.equal(item.bin, true);
      assert.equal(item.data, Buffer.of(3, 255).toString('base64'));
    });

    scenario("another one's message is refused", async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const [sent] = await sendTexts(t, tom, conversation, 'mine');
      await seenBy(jerry, conversation);
      const patch = { cid: conversation.id, mid: sent.id, timestamp: Number(sent.timestamp), data: 'stolen' };
      await t.refused(modify(t, jerry, patch), 4403);
      const [item] = await rawLogs(t, tom, conversation);
      assert.equal(JSON.parse(item.data)._lctext, 'mine');
    });

    scenario('a message that does not exist is refused', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await t.refused(
        modify(t, tom, { cid: conversation.id, mid: 'no-such-message-id-123', timestamp: Date.now(), data: 'x' }),
        4404,
      );
    });

    scenario('a recalled message cannot be modified', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const [sent] = await sendTexts(t, tom, conversation, 'x');
      const { id, timestamp } = sent;
      await conversation.recall(sent);
      await t.refused(
        modify(t, tom, { cid: conversation.id, mid: id, timestamp: Number(timestamp), data: 'y' }),
        4404,
        4405,
      );
    });
  });
}
