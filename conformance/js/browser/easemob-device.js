// Runs in the page: one device of an Easemob SDK's browser build, driven from Node.

window.device = {
  events: [],
  waiting: [],

  note(name, detail) {
    this.events.push({ name, detail });
    this.waiting.splice(0).forEach(look => look());
  },

  /** The first event of that name, not yet taken, whose detail has these values. */
  wait(name, wanted) {
    return new Promise(resolve => {
      const look = () => {
        const index = this.events.findIndex(
          event =>
            event.name === name &&
            Object.keys(wanted).every(key => event.detail[key] === wanted[key]),
        );
        if (index === -1) this.waiting.push(look);
        else resolve(this.events.splice(index, 1)[0].detail);
      };
      look();
    });
  },

  seen(name) {
    return this.events.filter(event => event.name === name).length;
  },

  /** `config`: what the constructor takes; `dns`: where to ask for the addresses instead. */
  async open({ config, user, credentials, dns }) {
    const EM = window.WebIM;
    EM.logger.disableAll();
    EM.utils.getRetryDelay = () => 0.05;
    const conn = new EM.connection(config);
    if (dns) {
      conn.dnsArr = [dns];
      conn.dnsTotal = 1;
    }
    if (conn.dataReport) conn.dataReport.setIsCollectDt(false);
    this.EM = EM;
    this.conn = conn;
    [
      'onConnected',
      'onDisconnected',
      'onTextMessage',
      'onImageMessage',
      'onRecallMessage',
      'onModifiedMessage',
      'onReadMessage',
      'onChannelMessage',
      'onMultiDeviceEvent',
      'onGroupEvent',
    ].forEach(name => {
      conn.addEventHandler(name, {
        [name]: detail => this.note(name, JSON.parse(JSON.stringify(detail || {}))),
      });
    });
    await this.settled(conn.open(Object.assign({ user }, credentials)));
    return conn.context.jid.clientResource;
  },

  /** Errors of the SDK are plain objects, which do not travel: they go as JSON. */
  async settled(promise) {
    try {
      return await promise;
    } catch (error) {
      throw new Error(JSON.stringify({ type: error.type, message: error.message }));
    }
  },

  async send(message) {
    const sent = await this.settled(
      this.conn.send(this.EM.message.create(Object.assign({ chatType: 'singleChat' }, message))),
    );
    return sent.serverMsgId;
  },

  /** Uploads bytes as an image and sends it. */
  async sendImage(to, bytes) {
    const data = new File([Uint8Array.from(bytes)], 'pixel.png', { type: 'image/png' });
    const file = { data, filename: data.name, filetype: 'png', url: URL.createObjectURL(data) };
    return this.send({ type: 'img', to, file, width: 1, height: 1, file_length: bytes.length });
  },

  /** The width that the browser finds in the image, after it loaded it like any page does. */
  widthOf(url) {
    return new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image.naturalWidth);
      image.onerror = () => reject(new Error(`${url} does not load`));
      image.src = url;
    });
  },

  async bytesOf(url) {
    const response = await fetch(url);
    return Array.from(new Uint8Array(await response.arrayBuffer()));
  },

  async list(options) {
    const { data } = await this.settled(this.conn.getConversationlist(options));
    return data.channel_infos.map(info => ({
      channel: info.channel_id,
      unread: info.unread_num,
      text: info.lastMessage.msg,
    }));
  },

  async byCursor() {
    const { data } = await this.settled(this.conn.getServerConversations({ pageSize: 20 }));
    return data.conversations.map(entry => ({
      id: entry.conversationId,
      unread: entry.unReadCount,
      text: entry.lastMessage.msg,
    }));
  },

  async history(targetId, options) {
    const { messages } = await this.settled(
      this.conn.getHistoryMessages(
        Object.assign({ targetId, chatType: 'singleChat', pageSize: 50, searchDirection: 'down' }, options),
      ),
    );
    return messages.map(message => message.msg);
  },

  removeMessages(targetId, options) {
    return this.settled(
      this.conn.removeHistoryMessages(Object.assign({ targetId, chatType: 'singleChat' }, options)),
    );
  },

  async removeConversation(channel, deleteRoam) {
    await this.settled(this.conn.deleteConversation({ channel, chatType: 'singleChat', deleteRoam }));
  },

  async recall(mid, to) {
    await this.settled(this.conn.recallMessage({ mid, to, chatType: 'singleChat' }));
  },

  async edit(messageId, to, msg) {
    const modifiedMessage = this.EM.message.create({ type: 'txt', chatType: 'singleChat', to, msg });
    await this.settled(this.conn.modifyMessage({ messageId, modifiedMessage }));
  },

  async createGroup(members) {
    const { data } = await this.settled(
      this.conn.createGroup({
        data: {
          groupname: 'talk',
          desc: 'of this and that',
          members,
          public: false,
          approval: false,
          allowinvites: true,
          inviteNeedConfirm: false,
          maxusers: 50,
        },
      }),
    );
    return data.groupid;
  },

  /** How a call is refused. */
  refusal(name, args) {
    return this[name](...args).then(
      () => ({ type: undefined }),
      error => JSON.parse(error.message),
    );
  },

  cut() {
    this.conn.sock.close();
  },

  close() {
    this.conn.close();
  },
};
