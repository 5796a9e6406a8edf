// What is sent arrives: contents, copies, order, idempotence.

import assert from 'node:assert/strict';

import { idsOf, textsOf } from '../../lib/easemob/device.mjs';
import { BOTH, KINDS, talk } from './shared.mjs';

const ext = {
  string: 'x',
  text: '蛋糕店 👍 "quoted" \\ \n next line',
  empty: '',
  integer: 3,
  negative: -7,
  large: 2 ** 53 - 1,
  fraction: 1.5,
  yes: true,
  no: false,
  object: { a: [1, { b: null }] },
  list: [1, 'two', { three: 3 }],
  nothing: null,
};

/** Each content: what is sent, and what a receiver, the history and the list show of it. */
const CONTENTS = {
  text: [{ type: 'txt', msg: 'hello 世界 👍' }, { type: 'txt', msg: 'hello 世界 👍' }],
  'a long text': [{ type: 'txt', msg: '长'.repeat(1_500) }, { type: 'txt', msg: '长'.repeat(1_500) }],
  custom: [
    { type: 'custom', customEvent: 'gift', customExts: { name: 'flower', size: '16' } },
    { type: 'custom', customEvent: 'gift', customExts: { name: 'flower', size: '16' } },
  ],
  location: [
    { type: 'loc', addr: '张江路', buildingName: '蛋糕店', lat: 31.8753, lng: 120.5514 },
    { type: 'loc', addr: '张江路', buildingName: '蛋糕店', lat: 31.8753, lng: 120.5514 },
  ],
  image: [
    { type: 'img', width: 320, height: 200, url: 'https://files.example.com/a/b/chatfiles/cat', file_length: 77 },
    { type: 'img', width: 320, height: 200, file_length: 77 },
    'cat',
  ],
  audio: [
    {
      type: 'audio',
      body: { url: 'https://files.example.com/a/b/chatfiles/song', filename: 'song.mp3', secret: 's3', file_length: 9, length: 12 },
    },
    { type: 'audio', filename: 'song.mp3', length: 12, file_length: 9, secret: 's3' },
    'song',
  ],
  video: [
    {
      type: 'video',
      body: { url: 'https://files.example.com/a/b/chatfiles/film', filename: 'film.mp4', secret: 's4', file_length: 10, length: 61 },
    },
    { type: 'video', filename: 'film.mp4', length: 61, file_length: 10, secret: 's4' },
    'film',
  ],
  file: [
    {
      type: 'file',
      body: { url: 'https://files.example.com/a/b/chatfiles/book', filename: 'book.pdf', secret: 's5', file_length: 11 },
    },
    { type: 'file', filename: 'book.pdf', file_length: 11, secret: 's5' },
    'book',
  ],
};

function holds(found, expected, file, where) {
  for (const [key, value] of Object.entries(expected)) {
    assert.deepEqual(found[key], value, `${where}: ${key}`);
  }
  if (file) assert.match(found.url, new RegExp(`/a/b/chatfiles/${file}(\\?|$)`), where);
}

export default function messages(ring) {
  ring.suite('easemob-messages', scenario => {
    for (const kind of KINDS) {
      for (const [content, [sent, expected, file]] of Object.entries(CONTENTS)) {
        scenario(`${kind}: ${content}`, async t => {
          const { tom, jerry, at, chatType } = await talk(t, kind);
          const { serverMsgId, message } = await tom.send({ ...sent, to: at(tom), chatType, ext: { k: 'v' } });
          assert.equal(message.id, serverMsgId);
          const received = await t.event(jerry, 'message', ({ id }) => id === serverMsgId);
          holds(received, { ...expected, from: tom.id, to: at(tom), chatType, ext: { k: 'v' } }, file, 'received');
          assert.ok(Math.abs(received.time - Date.now()) < 60_000, `time ${received.time}`);
          const { messages: [stored] } = await jerry.history(at(jerry), { chatType });
          holds(stored, { ...expected, id: serverMsgId, from: tom.id, to: at(tom), chatType, time: received.time }, file, 'history');
          assert.deepEqual(stored.ext, { k: 'v' });
          const listed = (await jerry.conversations()).conversations[0];
          assert.equal(listed.conversationId, at(jerry));
          assert.equal(listed.conversationType, chatType);
          assert.equal(listed.unReadCount, 1);
          holds(listed.lastMessage, { ...expected, id: serverMsgId, from: tom.id, to: at(tom), chatType, time: received.time }, file, 'list');
          assert.deepEqual(listed.lastMessage.ext, { k: 'v' });
          const entry = await jerry.entry(at(jerry));
          assert.equal(entry.lastMessage.id, serverMsgId);
          assert.equal(entry.lastMessage.type, expected.type);
        }, kind === 'single' ? BOTH : {});
      }

      scenario(`${kind}: values of every kind in ext`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        await tom.say(at(tom), 'look', { chatType, ext });
        assert.deepEqual((await t.message(jerry, 'look')).ext, ext);
        const { messages: [stored] } = await jerry.history(at(jerry), { chatType });
        assert.deepEqual(stored.ext, ext);
        const { conversations: [listed] } = await jerry.conversations();
        assert.deepEqual(listed.lastMessage.ext, ext);
      });

      scenario(`${kind}: a command leaves nothing behind`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        await tom.send({ type: 'cmd', action: 'TypingBegin', to: at(tom), chatType, ext: { k: 'v' } });
        const command = await t.event(jerry, 'onCmdMessage', ({ action }) => action === 'TypingBegin');
        assert.equal(command.from, tom.id);
        assert.equal(command.to, at(tom));
        assert.deepEqual(command.ext, { k: 'v' });
        assert.deepEqual(await jerry.texts(at(jerry), { chatType }), []);
        assert.deepEqual(await jerry.peers(), []);
        assert.deepEqual(await tom.peers(), []);
      }, BOTH);

      scenario(`${kind}: only for those who are online`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const away = await t.open('jerry');
        await away.close();
        await tom.say(at(tom), 'now or never', { chatType, deliverOnlineOnly: true });
        await t.message(jerry, 'now or never');
        assert.deepEqual(await jerry.texts(at(jerry), { chatType }), []);
        assert.deepEqual(await jerry.peers(), []);
        assert.deepEqual(await tom.peers(), []);
        await away.open({ accessToken: await t.rest.userToken(jerry.id) });
        await t.barrier(away);
        assert.deepEqual(t.messages(away), []);
      });

      scenario(`${kind}: the sending device gets no copy, the others do`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const phone = await t.open('tom');
        const id = await tom.say(at(tom), 'from the desk', { chatType });
        const copy = await t.message(phone, 'from the desk');
        assert.equal(copy.id, id);
        assert.equal(copy.from, tom.id);
        assert.equal(copy.to, at(tom));
        assert.equal((await t.message(jerry, 'from the desk')).id, id);
        await t.barrier(tom);
        assert.deepEqual(t.messages(tom), []);
        assert.equal((await phone.entry(at(tom))).unread_num, 0);
      }, BOTH);

      scenario(`${kind}: the same message sent again is stored and delivered once`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const message = tom.create({ type: 'txt', msg: 'once', to: at(tom), chatType });
        const first = await tom.conn.send(message);
        const second = await tom.conn.send(message);
        assert.equal(second.serverMsgId, first.serverMsgId);
        await tom.say(at(tom), 'next', { chatType });
        await t.message(jerry, 'once');
        await t.message(jerry, 'next');
        await t.barrier(jerry);
        assert.deepEqual(t.messages(jerry), []);
        assert.deepEqual(await tom.texts(at(tom), { chatType }), ['once', 'next']);
      });

      scenario(`${kind}: the same message again after a lost ack`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        await t.event(tom, 'onConnected');
        const message = tom.create({ type: 'txt', msg: 'sent twice', to: at(tom), chatType });
        // The socket dies when the message is out and, mostly, the ack is not in.
        const lost = tom.conn.send(message).catch(() => {});
        await t.message(jerry, 'sent twice');
        tom.cut();
        await lost;
        await t.event(tom, 'onConnected');
        await tom.conn.send(message);
        await tom.say(at(tom), 'next', { chatType });
        await t.message(jerry, 'next');
        await t.barrier(jerry);
        assert.deepEqual(t.messages(jerry), []);
        assert.deepEqual(await tom.texts(at(tom), { chatType }), ['sent twice', 'next']);
      });

      scenario(`${kind}: a hundred messages at once arrive once and in order`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const texts = Array.from({ length: 100 }, (_, index) => `m${index}`);
        const ids = await Promise.all(texts.map(text => tom.say(at(tom), text, { chatType })));
        assert.deepEqual(ids, [...ids].sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1)));
        const last = await t.message(jerry, texts.at(-1));
        const received = [...t.messages(jerry), last];
        assert.deepEqual(textsOf(received), texts);
        assert.deepEqual(idsOf(received), ids);
        const first = await jerry.history(at(jerry), { chatType, searchDirection: 'down' });
        const second = await jerry.history(at(jerry), { chatType, searchDirection: 'down', cursor: first.cursor });
        assert.deepEqual([...idsOf(first.messages), ...idsOf(second.messages)], ids);
      }, { timeout: 15_000 });
    }

    scenario('the same client id from another device is another message', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const phone = await t.open('tom');
      const message = tom.create({ type: 'txt', msg: 'one', to: jerry.id });
      const one = await tom.conn.send(message);
      const two = await phone.conn.send({ ...message, msg: 'two' });
      assert.notEqual(one.serverMsgId, two.serverMsgId);
      assert.deepEqual(await tom.texts(jerry.id), ['one', 'two']);
    });

    scenario('many who write to one at the same time', async t => {
      const labels = Array.from({ length: 6 }, (_, index) => `writer${index}`);
      const [jerry, ...writers] = await t.openAll('jerry', ...labels);
      await Promise.all(writers.map(writer => writer.sayAll(jerry.id, ...Array.from({ length: 10 }, (_, index) => `m${index}`))));
      await t.until('everything is here', () => t.messages(jerry).length >= 60);
      await t.barrier(jerry);
      const received = t.messages(jerry);
      assert.equal(received.length, 60);
      for (const writer of writers) {
        const texts = textsOf(received.filter(({ from }) => from === writer.id));
        assert.deepEqual(texts, Array.from({ length: 10 }, (_, index) => `m${index}`));
      }
      assert.deepEqual((await jerry.peers()).sort(), writers.map(({ id }) => id).sort());
    }, { timeout: 15_000 });

    scenario('a group message reaches every member and nobody else', async t => {
      const [tom, jerry, mary, eve] = await t.openAll('tom', 'jerry', 'mary', 'eve');
      const group = await t.rest.group(tom.id, [jerry.id, mary.id]);
      const id = await mary.sayIn(group, 'for us');
      for (const device of [tom, jerry]) {
        const received = await t.message(device, 'for us');
        assert.deepEqual([received.id, received.from, received.to, received.chatType], [id, mary.id, group, 'groupChat']);
      }
      await t.barrier(eve);
      assert.deepEqual(t.messages(eve), []);
      assert.deepEqual(await eve.peers(), []);
    }, BOTH);

    scenario('mentions travel in ext', async t => {
      const { tom, jerry, group } = await talk(t, 'group');
      await tom.sayIn(group, '@jerry', { ext: { em_at_list: [jerry.id] } });
      await tom.sayIn(group, '@all', { ext: { em_at_list: 'ALL' } });
      assert.deepEqual((await t.message(jerry, '@jerry')).ext, { em_at_list: [jerry.id] });
      assert.deepEqual((await t.message(jerry, '@all')).ext, { em_at_list: 'ALL' });
    });

    scenario('a message from the back end, to a user and to a group', async t => {
      const { tom, jerry, group } = await talk(t, 'group');
      const id = await t.rest.text(tom.id, jerry.id, 'by rest');
      const received = await t.message(jerry, 'by rest');
      assert.deepEqual([received.id, received.from, received.to, received.chatType], [id, tom.id, jerry.id, 'singleChat']);
      const ids = await t.rest.send(tom.id, group, { type: 'txt', body: { msg: 'to all' }, ext: { n: 1 } }, { groups: true });
      const inGroup = await t.message(jerry, 'to all');
      assert.deepEqual([inGroup.id, inGroup.from, inGroup.to, inGroup.chatType], [ids[group], tom.id, group, 'groupChat']);
      assert.deepEqual(inGroup.ext, { n: 1 });
      assert.deepEqual(await jerry.texts(tom.id), ['by rest']);
      assert.deepEqual(await jerry.texts(group, { chatType: 'groupChat' }), ['to all']);
    });

    scenario('every content from the back end', async t => {
      const jerry = await t.open('jerry');
      const url = `${t.rest.url}/chatfiles/x`;
      const send = async (type, body, event) => {
        const { [jerry.id]: id } = await t.rest.send('admin', jerry.id, { type, body, ext: { k: 1 } });
        const received = await t.event(jerry, event, message => message.id === id);
        assert.equal(received.from, 'admin');
        assert.deepEqual(received.ext, { k: 1 });
        return received;
      };
      assert.equal((await send('txt', { msg: 'hi' }, 'onTextMessage')).msg, 'hi');
      const image = await send('img', { url, filename: 'cat.png', secret: 's', size: { width: 3, height: 4 } }, 'onImageMessage');
      assert.deepEqual([image.width, image.height, image.secret], [3, 4, 's']);
      const audio = await send('audio', { url, filename: 'a.amr', secret: 's', length: 10 }, 'onAudioMessage');
      assert.deepEqual([audio.filename, audio.length], ['a.amr', 10]);
      const video = await send(
        'video',
        { url, filename: 'v.mp4', secret: 's', length: 5, file_length: 99, thumb: url, thumb_secret: 't' },
        'onVideoMessage',
      );
      assert.deepEqual([video.filename, video.length, video.file_length], ['v.mp4', 5, 99]);
      assert.equal((await send('file', { url, filename: 'f.txt', secret: 's' }, 'onFileMessage')).filename, 'f.txt');
      const place = await send('loc', { lat: '39.9', lng: '116.3', addr: '西湖' }, 'onLocationMessage');
      assert.deepEqual([place.lat, place.lng, place.addr], [39.9, 116.3, '西湖']);
      assert.equal((await send('cmd', { action: 'go' }, 'onCmdMessage')).action, 'go');
      const custom = await send('custom', { customEvent: 'ev', customExts: { a: 'b' } }, 'onCustomMessage');
      assert.deepEqual([custom.customEvent, custom.customExts], ['ev', { a: 'b' }]);
      const { messages: stored } = await jerry.history('admin', { searchDirection: 'down' });
      assert.deepEqual(stored.map(({ type }) => type), ['txt', 'img', 'audio', 'video', 'file', 'loc', 'custom']);
    });

    scenario('from the back end to many users, with a copy for the sender', async t => {
      const [tom, jerry, mary] = await t.openAll('tom', 'jerry', 'mary');
      const ids = await t.rest.send(tom.id, [jerry.id, mary.id], { type: 'txt', body: { msg: 'hello' } }, { sync_device: true });
      assert.notEqual(ids[jerry.id], ids[mary.id]);
      assert.equal((await t.message(jerry, 'hello')).id, ids[jerry.id]);
      assert.equal((await t.message(mary, 'hello')).id, ids[mary.id]);
      const copies = [await t.message(tom, 'hello'), await t.message(tom, 'hello')];
      assert.deepEqual(copies.map(({ to }) => to).sort(), [jerry.id, mary.id].sort());
    });

    scenario('from the back end, without a copy for the sender', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      await t.rest.text(tom.id, jerry.id, 'no copy');
      await t.message(jerry, 'no copy');
      await t.barrier(tom);
      assert.deepEqual(t.messages(tom), []);
    });

    scenario('a message for nobody who exists', async t => {
      const tom = await t.open('tom');
      const later = t.name('later');
      await tom.say(later, 'are you there?');
      assert.deepEqual(await tom.texts(later), ['are you there?']);
    });
  });
}
