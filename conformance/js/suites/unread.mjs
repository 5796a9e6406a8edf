// Unread counts, over several devices and after being away.

import assert from 'node:assert/strict';

import { create, KINDS, seenBy, sendTexts } from './shared.mjs';

const countOf = (conversations, { id }) =>
  conversations.find(conversation => conversation.id === id)?.unreadMessagesCount;

export default function unread(ring) {
  ring.suite('unread', scenario => {
    for (const kind of KINDS) {
      scenario(`${kind}: told after logging in, with the last message and the mention`, async t => {
        const tom = await t.open('tom');
        const conversation = await create(t, kind, tom, 'jerry');
        await sendTexts(t, tom, conversation, 'one');
        await conversation.send(t.text(tom, 'two').setMentionList([t.name('jerry')]));
        const [last] = await sendTexts(t, tom, conversation, 'three');
        const jerry = await t.open('jerry');
        const [conversations] = await t.event(jerry, 'unreadmessagescountupdate');
        assert.equal(countOf(conversations, conversation), 3);
        const mine = await seenBy(jerry, conversation);
        assert.equal(mine.unreadMessagesMentioned, true);
        assert.equal(mine.lastMessage.id, last.id);
        assert.equal(mine.lastMessage.text, 'three');
        assert.equal(mine.lastMessage.from, tom.id);
      });

      scenario(`${kind}: reading on one device clears the other`, async t => {
        const tom = await t.open('tom');
        const phone = await t.open('jerry');
        const desk = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        await conversation.send(t.text(tom, 'one'));
        // The SDKs may hand on out of order what waits for their first query of a conversation.
        await Promise.all([t.message(phone, 'one'), t.message(desk, 'one')]);
        await conversation.send(t.text(tom, 'two').mentionAll());
        const [, onPhone] = await t.message(phone, 'two');
        const [, onDesk] = await t.message(desk, 'two');
        await t.until('both count two', () => onPhone.unreadMessagesCount === 2 && onDesk.unreadMessagesCount === 2);
        await onPhone.read();
        await t.until('the desk counts none', () => onDesk.unreadMessagesCount === 0);
        assert.equal(onDesk.unreadMessagesMentioned, false);
        assert.equal(onDesk.lastMessage.text, 'two');
        const later = await t.open('jerry');
        await t.barrier(later);
        assert.deepEqual(t.seen(later, 'unreadmessagescountupdate'), []);
      });
    }

    scenario('messages received online count until they are read', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await sendTexts(t, tom, conversation, 'one', 'two');
      await t.message(jerry, 'two');
      await jerry.close();
      const again = await t.open('jerry');
      const [conversations] = await t.event(again, 'unreadmessagescountupdate');
      assert.equal(countOf(conversations, conversation), 2);
    });

    scenario('own messages do not count', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await sendTexts(t, tom, conversation, 'one', 'two');
      const again = await t.open('tom');
      await t.barrier(again);
      assert.deepEqual(t.seen(again, 'unreadmessagescountupdate'), []);
    });

    scenario('several conversations at once', async t => {
      const tom = await t.open('tom');
      const ordinary = await create(t, 'ordinary', tom, 'jerry');
      const temporary = await create(t, 'temporary', tom, 'jerry');
      await sendTexts(t, tom, ordinary, 'a', 'b');
      await sendTexts(t, tom, temporary, 'c');
      const jerry = await t.open('jerry');
      const [conversations] = await t.event(jerry, 'unreadmessagescountupdate', found => found.length === 2);
      assert.equal(countOf(conversations, ordinary), 2);
      assert.equal(countOf(conversations, temporary), 1);
    });

    scenario('what came while the connection was lost is told on return', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const atJerry = await seenBy(jerry, conversation);
      t.lose(jerry);
      await sendTexts(t, tom, conversation, 'one', 'two');
      await t.comeBack(jerry);
      await t.event(jerry, 'unreadmessagescountupdate');
      assert.equal(atJerry.unreadMessagesCount, 2);
      assert.equal(atJerry.lastMessage.text, 'two');
    });

    scenario('more than a hundred are counted exactly', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const texts = Array.from({ length: 105 }, (_, index) => `m${index}`);
      await Promise.all(texts.map(text => conversation.send(t.text(tom, text))));
      const jerry = await t.open('jerry');
      const [conversations] = await t.event(jerry, 'unreadmessagescountupdate');
      assert.equal(countOf(conversations, conversation), 105);
    });

    scenario('someone who was removed has nothing unread', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await sendTexts(t, tom, conversation, 'one');
      await conversation.remove([t.name('jerry')]);
      const jerry = await t.open('jerry');
      await t.barrier(jerry);
      assert.deepEqual(t.seen(jerry, 'unreadmessagescountupdate'), []);
    });
  });
}
