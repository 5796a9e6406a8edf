// Attachments through the server's own chatfiles.

import assert from 'node:assert/strict';

import { BOTH, KINDS } from './shared.mjs';

const PAGE = { kind: 'page' };

/** A file as a page has it, and how the SDK wants it. */
function fileOf(device, name, type, bytes) {
  const data = new device.window.File([bytes], name, { type });
  return { data, filename: name, filetype: type.split('/')[1], url: `blob:${name}` };
}

async function download(url) {
  const response = await fetch(url);
  assert.equal(response.status, 200, `${url} answered ${response.status}`);
  assert.equal(response.headers.get('access-control-allow-origin'), '*');
  return { bytes: Buffer.from(await response.arrayBuffer()), type: response.headers.get('content-type') };
}

// A PNG of one pixel.
const PIXEL = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);

const UPLOADS = {
  image: ['img', 'onImageMessage', 'pixel.png', 'image/png', PIXEL, { width: 1, height: 1 }],
  audio: ['audio', 'onAudioMessage', 'song.mp3', 'audio/mpeg', Buffer.from('sound'), { length: 3 }],
  video: ['video', 'onVideoMessage', 'film.mp4', 'video/mp4', Buffer.from('moving'), { length: 4 }],
  file: ['file', 'onFileMessage', '报告.pdf', 'application/pdf', Buffer.from('%PDF-'), {}],
};

export default function files(ring) {
  ring.suite('easemob-files', scenario => {
    for (const kind of KINDS) {
      for (const [label, [type, event, name, mime, bytes, more]] of Object.entries(UPLOADS)) {
        scenario(`${kind}: ${label} from a page`, async t => {
          const [tom, jerry] = await Promise.all([t.open('tom', PAGE), t.open('jerry', PAGE)]);
          const chatType = kind === 'single' ? 'singleChat' : 'groupChat';
          const to = kind === 'single' ? jerry.id : await t.rest.group(tom.id, [jerry.id]);
          const done = [];
          await tom.send({
            type,
            chatType,
            to,
            file: fileOf(tom, name, mime, bytes),
            filename: name,
            file_length: bytes.length,
            onFileUploadComplete: answer => done.push(answer),
            ...more,
          });
          assert.equal(done.length, 1);
          assert.equal(done[0].uri, `${t.rest.url}/chatfiles`);
          const received = await t.event(jerry, event);
          assert.equal(received.file_length, bytes.length);
          for (const [key, value] of Object.entries(more)) assert.equal(received[key], value);
          if (type !== 'img') assert.equal(received.filename, name);
          const found = await download(received.url);
          assert.deepEqual(found.bytes, bytes);
          assert.equal(found.type, mime);
          if (type === 'img') {
            const small = await download(received.thumb);
            assert.ok(small.bytes.length > 0);
          }
          const { messages: [stored] } = await jerry.history(kind === 'single' ? tom.id : to, { chatType });
          assert.equal(stored.url, received.url);
          assert.deepEqual((await download(stored.url)).bytes, bytes);
        }, kind === 'single' ? BOTH : {});
      }
    }

    scenario('the SDK downloads a file with its secret', async t => {
      const [tom, jerry] = await Promise.all([t.open('tom', PAGE), t.open('jerry', PAGE)]);
      await tom.send({ type: 'file', to: jerry.id, file: fileOf(tom, 'a.txt', 'text/plain', Buffer.from('contents')), filename: 'a.txt' });
      const received = await t.event(jerry, 'onFileMessage');
      const blob = await new Promise((resolve, reject) => {
        jerry.EM.utils.download.call(jerry.conn, {
          url: received.url,
          secret: received.secret,
          headers: { Accept: 'audio/mp3' },
          onFileDownloadComplete: resolve,
          onFileDownloadError: reject,
        });
      });
      assert.equal(blob.size, 8);
    });

    scenario('a file without its secret is refused, and an unknown one is not found', async t => {
      const tom = await t.open('tom', PAGE);
      const [jerry] = await t.people('jerry');
      const answers = [];
      await tom.send({
        type: 'file',
        to: jerry,
        file: fileOf(tom, 'a.txt', 'text/plain', Buffer.from('contents')),
        filename: 'a.txt',
        onFileUploadComplete: answer => answers.push(answer),
      });
      const [{ uuid }] = answers[0].entities;
      const bare = await t.rest.call('GET', `/chatfiles/${uuid}`, { token: null });
      assert.ok([401, 403].includes(bare.status), `answered ${bare.status}`);
      const wrong = await t.rest.call('GET', `/chatfiles/${uuid}?share-secret=wrong`, { token: null });
      assert.ok([401, 403].includes(wrong.status), `answered ${wrong.status}`);
      const { error } = await t.rest.fails(404, 'GET', '/chatfiles/00000000-0000-0000-0000-000000000000');
      assert.equal(error, 'entity_not_found');
      await t.rest.fails(404, 'GET', '/chatfiles/..%2f..%2fetc%2fpasswd');
    });

    scenario('a large file is sent in one piece where parts are not offered', async t => {
      const [tom, jerry] = await Promise.all([t.open('tom', PAGE), t.open('jerry', PAGE)]);
      const bytes = Buffer.alloc(8 * 1024 * 1024, 'posthouse ');
      await tom.send({ type: 'file', to: jerry.id, file: fileOf(tom, 'large.bin', 'application/octet-stream', bytes), filename: 'large.bin' });
      const received = await t.event(jerry, 'onFileMessage');
      assert.equal(received.file_length, bytes.length);
      const found = await download(received.url);
      assert.equal(Buffer.compare(found.bytes, bytes), 0);
    }, { timeout: 20_000 });

    scenario('a file that is too large', async t => {
      const tom = await t.open('tom', PAGE);
      const [jerry] = await t.people('jerry');
      const file = fileOf(tom, 'a.bin', 'application/octet-stream', Buffer.alloc(1_001));
      await t.refused(tom.send({ type: 'file', to: jerry, file, filename: 'a.bin' }), 101);
      assert.deepEqual(await tom.peers(), []);
    }, { settings: { file_bytes_max: 1_000 } });

    scenario('an upload with a token that is none is answered, however much there is of it', async t => {
      for (const size of [1, 500_000]) {
        const form = new FormData();
        form.append('file', new Blob([Buffer.alloc(size, 'x')]), 'x.txt');
        await t.rest.fails(401, 'POST', '/chatfiles', { body: form, token: 'nonsense', type: null });
      }
    });

    scenario('an upload without a file', async t => {
      const empty = new FormData();
      empty.append('other', 'x');
      const { error_description: why } = await t.rest.fails(400, 'POST', '/chatfiles', { body: empty, type: null });
      assert.equal(why, 'file must be provided.');
    });

    scenario('several messages forwarded as one', async t => {
      const [tom, jerry, mary] = await Promise.all([t.open('tom', PAGE), t.open('jerry', PAGE), t.open('mary', PAGE)]);
      await tom.sayAll(jerry.id, 'first', 'second');
      const { messages } = await tom.history(jerry.id, { searchDirection: 'down' });
      await tom.send({
        type: 'combine',
        to: mary.id,
        title: 'what we said',
        summary: 'first, second',
        compatibleText: 'your version is too old',
        messageList: messages,
      });
      const received = await t.event(mary, 'onCombineMessage');
      assert.deepEqual(
        [received.title, received.summary, received.compatibleText, received.combineLevel, received.from],
        ['what we said', 'first, second', 'your version is too old', 1, tom.id],
      );
      const inside = await mary.conn.downloadAndParseCombineMessage({ url: received.url, secret: received.secret });
      assert.deepEqual(inside.map(({ msg, from }) => [msg, from]), [['first', tom.id], ['second', tom.id]]);
      const { messages: [stored] } = await mary.history(tom.id);
      assert.equal(stored.type, 'combine');
      assert.equal(stored.url, received.url);
      const { conversations: [listed] } = await mary.conversations();
      assert.equal(listed.lastMessage.type, 'combine');
      assert.equal(listed.lastMessage.title, 'what we said');
    });
  });
}
