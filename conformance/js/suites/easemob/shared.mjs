// What many suites begin with.

import assert from 'node:assert/strict';

/** Scenarios for both SDKs. */
export const BOTH = { sdk: ['easemob', 'agora-chat'] };

/** The two kinds of conversations. */
export const KINDS = ['single', 'group'];

/**
 * Tom and Jerry, logged in, with a conversation of `kind`: `at` gives a
 * person's id of it, `chatType` is what the SDK calls it.
 */
export async function talk(t, kind, options = {}) {
  const [tom, jerry] = await Promise.all([t.open('tom', options.tom), t.open('jerry', options.jerry)]);
  if (kind === 'single') {
    return { tom, jerry, chatType: 'singleChat', at: device => (device.id === tom.id ? jerry.id : tom.id) };
  }
  const group = await t.rest.group(tom.id, [jerry.id]);
  return { tom, jerry, group, chatType: 'groupChat', at: () => group };
}

/** Puts a text into history with a time of its own; gives its id. */
export async function imported(t, from, target, msg, at, { group = false, read = false, ...more } = {}) {
  const { data } = await t.rest.ok('POST', group ? '/messages/chatgroups/import' : '/messages/users/import', {
    body: { from, target, type: 'txt', body: { msg }, ext: {}, is_ack_read: read, msg_timestamp: at, ...more },
  });
  assert.match(data.msg_id, /^\d+$/);
  return data.msg_id;
}

/** Waits until the clock has moved on, so that what follows has a later time. */
export async function nextMillisecond(t) {
  const now = Date.now();
  await t.until('the clock has moved on', () => Date.now() > now + 1);
}

/** The user's own token, for calls that the SDK does not make. */
export const bearer = device => ({ token: device.conn.token });
