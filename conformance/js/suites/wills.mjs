// The message that is sent when its sender drops out.

import assert from 'node:assert/strict';

import { create, KINDS, seenBy, sendTexts, textsOf } from './shared.mjs';

export default function wills(ring) {
  ring.suite('wills', scenario => {
    for (const kind of KINDS) {
      scenario(`${kind}: delivered after the grace time, and stored nowhere`, async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry', 'mary');
        const will = await conversation.send(t.text(tom, 'farewell'), { will: true });
        await sendTexts(t, tom, conversation, 'still here');
        await t.message(jerry, 'still here');
        t.lose(tom);
        const [message, where] = await t.message(jerry, 'farewell');
        assert.equal(message.id, will.id);
        assert.equal(message.from, tom.id);
        assert.deepEqual(textsOf(await where.queryMessages()), ['still here']);
        const mary = await t.open('mary');
        const [conversations] = await t.event(mary, 'unreadmessagescountupdate');
        assert.equal(conversations[0].unreadMessagesCount, 1);
      });
    }

    scenario('not after a polite close', async t => {
      const tom = await t.open('tom');
      const witness = await t.open('witness');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry', 'witness');
      const atWitness = await seenBy(witness, conversation);
      await conversation.send(t.text(tom, 'never seen'), { will: true });
      await tom.close();
      // A will of another client, set later, marks the time by which the
      // first would have come.
      await atWitness.send(t.text(witness, 'mark'), { will: true });
      t.lose(witness);
      await t.message(jerry, 'mark');
      assert.deepEqual(t.seen(jerry, 'message'), []);
    });

    scenario('not when the client is back in time', async t => {
      const tom = await t.open('tom');
      const witness = await t.open('witness');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry', 'witness');
      const atWitness = await seenBy(witness, conversation);
      await conversation.send(t.text(tom, 'too soon'), { will: true });
      await atWitness.send(t.text(witness, 'mark'), { will: true });
      await t.drop(tom);
      t.lose(witness);
      await t.message(jerry, 'mark');
      assert.deepEqual(t.seen(jerry, 'message'), []);
    });

    scenario('a later will replaces the earlier one', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await conversation.send(t.text(tom, 'first will'), { will: true });
      await conversation.send(t.text(tom, 'last will'), { will: true });
      t.lose(tom);
      await t.message(jerry, 'last will');
      await t.barrier(jerry);
      assert.deepEqual(t.seen(jerry, 'message'), []);
    });
  });
}
