// Runs in the page: one device of the SDK's browser build, driven from Node.

/* global AV, LeanCloudPresence */
window.device = {
  events: [],
  waiting: [],
  sent: {},

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

  async open(config, id) {
    const realtime = new AV.Realtime(
      Object.assign({}, config, { plugins: [LeanCloudPresence.PresencePlugin] }),
    );
    const client = await realtime.createIMClient(id);
    this.client = client;
    const describe = (message, conversation) => ({
      id: message.id,
      text: message.text,
      from: message.from,
      cid: conversation.id,
      recalled: message instanceof AV.RecalledMessage,
    });
    ['message', 'messageupdate', 'messagerecall'].forEach(name => {
      client.on(name, (message, conversation) => this.note(name, describe(message, conversation)));
    });
    client.on('invited', ({ invitedBy }, { id: cid }) => this.note('invited', { invitedBy, cid }));
    client.on('unreadmessagescountupdate', conversations => {
      conversations.forEach(({ id: cid, unreadMessagesCount: count }) =>
        this.note('unread', { cid, count }),
      );
    });
    return client.id;
  },

  async createTemporary(members, ttl) {
    const conversation = await this.client.createTemporaryConversation({ members, ttl });
    return conversation.id;
  },

  async createOrdinary(members) {
    const conversation = await this.client.createConversation({ members, unique: false });
    return conversation.id;
  },

  conversation(cid) {
    return this.client.getConversation(cid);
  },

  async send(cid, text) {
    const conversation = await this.conversation(cid);
    const message = await conversation.send(new AV.TextMessage(text));
    this.sent[message.id] = message;
    return message.id;
  },

  async sendBytes(cid, bytes) {
    const conversation = await this.conversation(cid);
    await conversation.send(new AV.BinaryMessage(Uint8Array.from(bytes).buffer));
  },

  async lastBytes(cid) {
    const conversation = await this.conversation(cid);
    const [message] = await conversation.queryMessages({ limit: 1 });
    return Array.from(new Uint8Array(message.buffer));
  },

  async update(cid, mid, text) {
    const conversation = await this.conversation(cid);
    await conversation.update(this.sent[mid], new AV.TextMessage(text));
  },

  async recall(cid, mid) {
    const conversation = await this.conversation(cid);
    await conversation.recall(this.sent[mid]);
  },

  async history(cid) {
    const conversation = await this.conversation(cid);
    const messages = await conversation.queryMessages();
    return messages.map(message =>
      message instanceof AV.RecalledMessage ? 'recalled' : message.text,
    );
  },

  async read(cid) {
    const conversation = await this.conversation(cid);
    await conversation.read();
  },

  async subscribe(cid) {
    const conversation = await this.conversation(cid);
    conversation.on('presence', ({ online, offline }) =>
      this.note('presence', { online: online.join(), offline: offline.join() }),
    );
    return conversation.subscribePresence();
  },

  close() {
    return this.client.close();
  },

  async drop() {
    const reconnected = new Promise(resolve => this.client.once('reconnect', resolve));
    this.client._connection._ws.close();
    await reconnected;
  },
};
