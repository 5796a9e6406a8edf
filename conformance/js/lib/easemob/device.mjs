// One simulated device: an instance of an SDK, its connection, and a journal of its events.

import assert from 'node:assert/strict';

import { Journal } from '../scenario.mjs';
import { loadSdk } from './sdk.mjs';

const EVENTS = [
  'onTextMessage',
  'onImageMessage',
  'onAudioMessage',
  'onVideoMessage',
  'onFileMessage',
  'onLocationMessage',
  'onCmdMessage',
  'onCustomMessage',
  'onCombineMessage',
  'onReceivedMessage',
  'onDeliveredMessage',
  'onReadMessage',
  'onRecallMessage',
  'onChannelMessage',
  'onModifiedMessage',
  'onStatisticMessage',
  'onContactInvited',
  'onContactAgreed',
  'onContactRefuse',
  'onContactDeleted',
  'onContactAdded',
  'onTokenWillExpire',
  'onTokenExpired',
  'onConnected',
  'onReconnecting',
  'onDisconnected',
  'onGroupEvent',
  'onGroupChange',
  'onMultiDeviceEvent',
  'onMessagePinEvent',
  'onOfflineMessageSyncStart',
  'onOfflineMessageSyncFinish',
  'onMessage',
];

/** The events that bring a message into a conversation. */
const MESSAGES = EVENTS.slice(0, 9);

export class Device {
  /** `kind`: the surrounding, see `loadSdk`; `deviceId`: what the device keeps calling itself. */
  constructor({ sdk, kind, user, deviceId, journal = new Journal(), options }) {
    const { EM, window, close } = loadSdk(sdk, kind);
    this.sdk = sdk;
    this.id = user;
    this.EM = EM;
    this.window = window;
    this.closeSurrounding = close;
    this.journal = journal;
    // The SDKs wait for one to two seconds before they reconnect.
    EM.utils.getRetryDelay = () => 0.05;
    this.conn = new EM.connection({
      isHttpDNS: false,
      deviceId,
      // Enough for a server that restarts, at twenty tries a second.
      autoReconnectNumMax: 600,
      ...options,
    });
    this.conn.dataReport?.setIsCollectDt(false);
    for (const name of EVENTS) this.#record(name);
    this.conn.onError = error => journal.add('onError', [error]);
  }

  #record(name) {
    const note = detail => {
      this.journal.add(name, [detail]);
      if (MESSAGES.includes(name)) this.journal.add('message', [detail]);
    };
    this.conn.addEventHandler(name, { [name]: note });
  }

  /** The resource under which the server knows this device. */
  get resource() {
    return this.conn.context.jid.clientResource;
  }

  open(credentials) {
    return this.conn.open({ user: this.id, ...credentials });
  }

  create(message) {
    return this.EM.message.create({ chatType: 'singleChat', ...message });
  }

  /** Sends any message; gives what the SDK resolves with. */
  async send(message) {
    const sent = await this.conn.send(this.create(message));
    assert.match(sent.serverMsgId, /^\d{1,19}$/);
    return sent;
  }

  /** Sends a text to a user; gives the server's id of it. */
  async say(to, msg, more = {}) {
    const { serverMsgId } = await this.send({ type: 'txt', to, msg, ...more });
    return serverMsgId;
  }

  /** Sends a text to a group; gives the server's id of it. */
  sayIn(group, msg, more = {}) {
    return this.say(group, msg, { chatType: 'groupChat', ...more });
  }

  /** Sends texts one after the other; gives their ids. */
  async sayAll(to, ...texts) {
    const ids = [];
    for (const text of texts) ids.push(await this.say(to, text));
    return ids;
  }

  /** Tells that everything in the conversation was read. */
  readAll(to, chatType = 'singleChat') {
    return this.conn.send(this.create({ type: 'channel', chatType, to }));
  }

  /** A page of history: `{ cursor, messages, isLast }`. */
  history(targetId, options = {}) {
    return this.conn.getHistoryMessages({
      targetId,
      chatType: 'singleChat',
      pageSize: 50,
      searchDirection: 'up',
      ...options,
    });
  }

  /** The texts of a conversation, oldest first. */
  async texts(targetId, options = {}) {
    const { messages } = await this.history(targetId, { searchDirection: 'down', ...options });
    return messages.map(({ msg }) => msg);
  }

  /** The conversation list by pages, or without paging when nothing is given. */
  async list(options) {
    const { data } = await this.conn.getConversationlist(options);
    return data.channel_infos.map(info => ({
      ...info,
      peer: peerOf(this.conn.appKey, info.channel_id),
      text: info.lastMessage.msg,
    }));
  }

  /** One conversation of the paged list, or `undefined`. */
  async entry(peer) {
    const entries = await this.list({ pageNum: 1, pageSize: 20 });
    return entries.find(entry => entry.peer === peer);
  }

  /** Who is in the paged list, newest first. */
  async peers() {
    const entries = await this.list({ pageNum: 1, pageSize: 20 });
    return entries.map(({ peer }) => peer);
  }

  /** The conversation list by cursor: `{ conversations, cursor }`. */
  async conversations(options = {}) {
    const { data } = await this.conn.getServerConversations({ pageSize: 50, ...options });
    return data;
  }

  removeMessages(targetId, options) {
    return this.conn.removeHistoryMessages({ targetId, chatType: 'singleChat', ...options });
  }

  removeConversation(channel, deleteRoam, chatType = 'singleChat') {
    return this.conn.deleteConversation({ channel, chatType, deleteRoam });
  }

  /** The socket dies; the SDK reconnects by itself. */
  cut() {
    const { sock } = this.conn;
    if (sock.terminate) sock.terminate();
    else sock.close();
  }

  /** Logs out: the device is offline when the promise resolves. */
  async close() {
    const { sock } = this.conn;
    this.conn.close();
    if (!sock || sock.readyState === 3) return;
    await new Promise(resolve => sock.addEventListener('close', resolve));
  }

  dispose() {
    try {
      this.conn.close();
    } catch {
      // What a scenario left behind is no finding of its own.
    }
    this.closeSurrounding();
  }
}

/** The user or group of a `channel_id`. */
export function peerOf(appKey, channel) {
  const [, peer] = /^(.*)@(?:conference\.)?easemob\.com$/.exec(channel) ?? [];
  assert.ok(peer?.startsWith(`${appKey}_`), `channel_id ${channel}`);
  return peer.slice(appKey.length + 1);
}

export const textsOf = messages => messages.map(({ msg }) => msg);
export const idsOf = messages => messages.map(({ id }) => id);
