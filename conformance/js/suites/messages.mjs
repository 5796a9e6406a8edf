// Sending, delivery and what content may be.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

import { create, KINDS, rawLogs, seenBy, sendTexts, textsOf } from './shared.mjs';

const require = createRequire(import.meta.url);
const initTypedMessages = require('leancloud-realtime-plugin-typed-messages');
const AVStorage = require('leancloud-storage');

// Files and places need an initialized storage SDK; nothing is asked of it.
AVStorage.init({ appId: 'unused', appKey: 'unused', serverURL: 'http://127.0.0.1:1' });

const ODD = [
  ['other scripts and emoji', '一二三 العربية हिन्दी 👩‍👩‍👧‍👦 🇩🇪 e\u0301 \u{10FFFF}'],
  ['control characters and separators', 'a\u0000b\u0001\u2028\u2029\ufeff\u200f\r\n\t'],
  ['a string that is not JSON', 'plain {not json'],
  ['JSON whose spacing and escapes must stay', '{ "_lctype" :-1,\n  "_lctext":"\\u0041\\/ 1.0e0" , "_lctext2":1.10 }'],
  ['a bare number', '12345678901234567890'],
];

export default function messages(ring) {
  ring.suite('messages', scenario => {
    for (const [what, content] of ODD) {
      scenario(`content is left as sent: ${what}`, async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, 'ordinary', tom, 'jerry');
        await conversation.send(new tom.AV.Message(content));
        const { CommandType } = jerry.AV.Protocals;
        const push = await t.push(jerry, ({ cmd }) => cmd === CommandType.direct, 'push direct');
        assert.equal(push.directMessage.msg, content);
        const [item] = await rawLogs(t, jerry, conversation);
        assert.equal(item.data, content);
      });
    }

    scenario('a delivered message carries what SDKs need', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'temporary', tom, 'jerry');
      const sent = await conversation.send(t.text(tom, 'x'));
      const { CommandType } = jerry.AV.Protocals;
      const push = await t.push(jerry, ({ cmd }) => cmd === CommandType.direct, 'push direct');
      assert.equal(push.service, 2);
      assert.equal(push.peerId, jerry.id);
      assert.equal(push.i, null);
      const { directMessage } = push;
      assert.equal(directMessage.id, sent.id);
      assert.equal(directMessage.cid, conversation.id);
      assert.equal(directMessage.fromPeerId, tom.id);
      assert.equal(Number(directMessage.timestamp), Number(sent.timestamp));
      assert.equal(directMessage.binaryMsg, null);
    });

    scenario('the ack of a sent message has no code', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const { ackMessage } = await t.raw(tom, {
        cmd: 'direct',
        directMessage: { cid: conversation.id, msg: 'x', dt: t.name('dt') },
      });
      assert.equal(ackMessage.code, null);
      assert.equal(ackMessage.reason, null);
      assert.equal(ackMessage.cid, conversation.id);
      assert.ok(ackMessage.uid);
      assert.ok(Number(ackMessage.t) > 0);
    });

    scenario('binary content', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
      await conversation.send(new tom.AV.BinaryMessage(bytes.buffer));
      const [received, atJerry] = await t.event(jerry, 'message');
      assert.ok(received instanceof jerry.AV.BinaryMessage);
      assert.deepEqual(new Uint8Array(received.buffer), bytes);
      const [inHistory] = await atJerry.queryMessages();
      assert.deepEqual(new Uint8Array(inHistory.buffer), bytes);
      const [item] = await rawLogs(t, jerry, conversation);
      assert.equal(item.bin, true);
      assert.equal(item.data, Buffer.from(bytes).toString('base64'));
    });

    scenario('binary content as the last unread message', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const bytes = Uint8Array.of(0, 255, 1);
      await conversation.send(new tom.AV.BinaryMessage(bytes.buffer));
      const jerry = await t.open('jerry');
      const { CommandType } = jerry.AV.Protocals;
      const push = await t.push(jerry, ({ cmd }) => cmd === CommandType.unread, 'push unread');
      const [tuple] = push.unreadMessage.convs;
      assert.deepEqual(new Uint8Array(tuple.binaryMsg.toArrayBuffer()), bytes);
    });

    scenario('messages of an application type', async t => {
      const define = AV => {
        class Order extends AV.TypedMessage {}
        AV.messageType(7)(Order);
        AV.messageField(['sku'])(Order);
        return Order;
      };
      const device = label => t.open(label, { device: t.device({ plugins: AV => [{ name: 'order', messageClasses: [define(AV)] }] }) });
      const tom = await device('tom');
      const jerry = await device('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const Order = define(tom.AV);
      const order = new Order();
      order.sku = 'A-1';
      order.setText('one of these').setAttributes({ deep: { n: 1 } });
      await conversation.send(order);
      const [received] = await t.event(jerry, 'message');
      assert.equal(received.type, 7);
      assert.equal(received.sku, 'A-1');
      assert.equal(received.text, 'one of these');
      assert.deepEqual(received.attributes, { deep: { n: 1 } });
    });

    scenario('the typed-messages plugin: a place and an image', async t => {
      const kinds = new Map();
      const device = label =>
        t.open(label, {
          device: t.device({
            plugins: AV => {
              const typed = initTypedMessages(AVStorage, AV);
              kinds.set(AV, typed);
              return [typed.TypedMessagesPlugin];
            },
          }),
        });
      const tom = await device('tom');
      const jerry = await device('jerry');
      const conversation = await create(t, 'temporary', tom, 'jerry');
      const sending = kinds.get(tom.AV);
      const receiving = kinds.get(jerry.AV);
      const place = new sending.LocationMessage(new AVStorage.GeoPoint(31.8753, 120.5514));
      place.setText('蛋糕店的位置');
      await conversation.send(place);
      const [where] = await t.event(jerry, 'message', message => message instanceof receiving.LocationMessage);
      assert.equal(where.getLocation().latitude, 31.8753);
      assert.equal(where.text, '蛋糕店的位置');
      const file = AVStorage.File.createWithoutData('5c8b3a1f1d2e3f4a5b6c7d8e');
      file.attributes = { url: 'https://files.example.com/cat.png', name: 'cat.png', metaData: { size: 3 } };
      await conversation.send(new sending.ImageMessage(file));
      const [image] = await t.event(jerry, 'message', message => message instanceof receiving.ImageMessage);
      assert.equal(image.getFile().id, file.id);
      const places = await conversation.queryMessages({ type: -5 });
      assert.equal(places.length, 1);
    });

    scenario('mentions: a list', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const mary = await t.open('mary');
      const conversation = await create(t, 'ordinary', tom, 'jerry', 'mary');
      await conversation.send(t.text(tom, '@jerry').setMentionList([jerry.id]));
      const [atJerry, jerrys] = await t.message(jerry, '@jerry');
      assert.equal(atJerry.mentioned, true);
      assert.deepEqual(atJerry.mentionList, [jerry.id]);
      assert.equal(jerrys.unreadMessagesMentioned, true);
      const [atMary] = await t.message(mary, '@jerry');
      assert.equal(atMary.mentioned, false);
      const [inHistory] = await conversation.queryMessages();
      assert.deepEqual(inHistory.mentionList, [jerry.id]);
    });

    scenario('mentions: all', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await conversation.send(t.text(tom, '@all').mentionAll());
      const [received] = await t.message(jerry, '@all');
      assert.equal(received.mentioned, true);
      assert.equal(received.mentionedAll, true);
      const [inHistory] = await conversation.queryMessages();
      assert.equal(inHistory.mentionedAll, true);
    });

    for (const kind of KINDS) {
      scenario(`${kind}: transient messages reach those who are online and stay nowhere`, async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry', 'mary');
        await conversation.send(t.text(tom, 'typing'), { transient: true });
        await t.message(jerry, 'typing');
        assert.deepEqual(await conversation.queryMessages(), []);
        const mary = await t.open('mary');
        await t.barrier(mary);
        assert.deepEqual(t.seen(mary, 'unreadmessagescountupdate'), []);
      });

      scenario(`${kind}: the sender's other devices get a copy, the sending one does not`, async t => {
        const tom = await t.open('tom');
        const other = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        await sendTexts(t, tom, conversation, 'from the desk');
        const [copy, where] = await t.message(other, 'from the desk');
        assert.equal(copy.from, tom.id);
        assert.equal(where.unreadMessagesCount, 0);
        await t.message(jerry, 'from the desk');
        await t.barrier(tom);
        assert.deepEqual(t.seen(tom, 'message'), []);
      });

      scenario(`${kind}: the same message sent again is stored and delivered once`, async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const conversation = await create(t, kind, tom, 'jerry');
        const message = t.text(tom, 'once');
        const token = message.id;
        await conversation.send(message);
        const { id, timestamp } = message;
        // The SDK keeps its token as the id until the ack comes.
        message.id = token;
        await conversation.send(message);
        assert.equal(message.id, id);
        assert.equal(Number(message.timestamp), Number(timestamp));
        await sendTexts(t, tom, conversation, 'next');
        await t.message(jerry, 'once');
        await t.message(jerry, 'next');
        assert.deepEqual(t.seen(jerry, 'message'), []);
        assert.deepEqual(textsOf(await conversation.queryMessages()), ['once', 'next']);
      });
    }

    scenario('the same token from another sender is another message', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const atJerry = await seenBy(jerry, conversation);
      const one = t.text(tom, 'one');
      const two = t.text(jerry, 'two');
      two.id = one.id;
      await conversation.send(one);
      await atJerry.send(two);
      assert.notEqual(one.id, two.id);
    });

    scenario('a message whose ack was lost is sent again after the reconnect', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const message = t.text(tom, 'sent twice');
      const token = message.id;
      // The socket dies when the message is out and the ack is not in.
      const lost = conversation.send(message);
      lost.catch(() => {});
      await t.message(jerry, 'sent twice');
      await t.drop(tom);
      message.id = token;
      await conversation.send(message);
      await sendTexts(t, tom, conversation, 'next');
      await t.message(jerry, 'next');
      assert.deepEqual(t.seen(jerry, 'message'), []);
      assert.deepEqual(textsOf(await conversation.queryMessages()), ['sent twice', 'next']);
    });

    scenario('many messages arrive once and in order', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      // Jerry knows the conversation before: SDK 5 hands on the messages that waited for its query
      // after those that came later.
      await conversation.send(t.text(tom, 'first'));
      await t.message(jerry, 'first');
      const texts = Array.from({ length: 99 }, (_, index) => `m${index}`);
      await Promise.all(texts.map(text => conversation.send(t.text(tom, text))));
      const [last] = await t.message(jerry, texts.at(-1));
      const received = [...t.seen(jerry, 'message').map(([message]) => message), last];
      assert.deepEqual(textsOf(received), texts);
      const times = received.map(({ timestamp }) => Number(timestamp));
      assert.deepEqual(times, [...times].sort((a, b) => a - b));
      const stored = (await conversation.queryMessages({ limit: 100 })).slice(1);
      assert.deepEqual(textsOf(stored), texts);
      assert.deepEqual(stored.map(({ id }) => id), received.map(({ id }) => id));
    });
  });
}
