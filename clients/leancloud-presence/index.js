/*
 * Members' online status for the LeanCloud JavaScript SDK (4.3.1 and 5.x).
 *
 * The SDK has no call for it, but its protocol has the fields: `conv/status`
 * subscribes and answers with the present state, `presence` is pushed on
 * every change. This plugin speaks them through the SDK's plugin hooks.
 */
(function (root, factory) {
  if (typeof module === 'object' && module.exports) {
    module.exports = factory();
  } else if (typeof define === 'function' && define.amd) {
    define([], factory);
  } else {
    root.LeanCloudPresence = factory();
  }
})(typeof self !== 'undefined' ? self : this, function () {
  'use strict';

  // Numbers of the wire: CommandType.presence and StatusType.
  var PRESENCE = 12;
  var ON = 1;

  // Answers after which the server holds no subscription and never will again:
  // not a normal or temporary conversation, not a member, not found, expired.
  var FINAL_CODES = [4303, 4309, 4314, 4317, 4323];
  var RETRY_MS = 5000;
  var LONGEST_TIMER_MS = 2000000000;

  // IMClient → { entries: { conversation id: entry }, connected }
  var states = new WeakMap();

  function stateOf(client) {
    var state = states.get(client);
    if (!state) {
      state = { entries: Object.create(null), connected: true, GenericCommand: null };
      states.set(client, state);
    }
    return state;
  }

  function isFinal(error) {
    return Boolean(error) && FINAL_CODES.indexOf(error.code) !== -1;
  }

  // The SDK exports its protobuf classes under names that differ between
  // versions and builds. A conversation builds one for every call, so ask it:
  // `count()` runs against a stand-in whose `_send` keeps the command.
  function genericCommandClass(conversation, state) {
    if (!state.GenericCommand) {
      var captured = null;
      var standIn = Object.create(conversation);
      standIn._send = function (command) {
        captured = command;
        return Promise.resolve({ convMessage: { count: 0 } });
      };
      conversation.count.call(standIn);
      state.GenericCommand = captured.$type.clazz;
    }
    return state.GenericCommand;
  }

  function sendStatus(conversation, subscribe, ttl) {
    var GenericCommand = genericCommandClass(conversation, stateOf(conversation._client));
    var convMessage = { cid: conversation.id, statusSub: subscribe };
    if (subscribe && ttl) convMessage.statusTTL = ttl;
    return conversation._send(
      new GenericCommand({ cmd: 'conv', op: 'status', convMessage: convMessage })
    );
  }

  function snapshot(known) {
    var result = { online: [], offline: [] };
    Object.keys(known).forEach(function (id) {
      (known[id] ? result.online : result.offline).push(id);
    });
    return result;
  }

  // What is different in `next`; somebody who is new or gone counts only by
  // being online now or having been online before.
  function difference(previous, next) {
    var changes = { online: [], offline: [] };
    Object.keys(next).forEach(function (id) {
      if (next[id] && !previous[id]) changes.online.push(id);
      if (!next[id] && previous[id]) changes.offline.push(id);
    });
    Object.keys(previous).forEach(function (id) {
      if (previous[id] && !(id in next)) changes.offline.push(id);
    });
    return changes;
  }

  function emit(entry, event, payload) {
    entry.conversations.forEach(function (conversation) {
      conversation.emit(event, payload);
    });
  }

  function emitChanges(entry, changes) {
    if (changes.online.length || changes.offline.length) emit(entry, 'presence', changes);
  }

  function clearTimer(entry) {
    if (entry.timer) clearTimeout(entry.timer);
    entry.timer = null;
  }

  function schedule(client, entry, delay) {
    clearTimer(entry);
    entry.timer = setTimeout(function () {
      renew(client, entry);
    }, Math.min(delay, LONGEST_TIMER_MS));
    // In Node a waiting renewal must not keep the process alive.
    if (entry.timer && entry.timer.unref) entry.timer.unref();
  }

  function isCurrent(client, entry) {
    return stateOf(client).entries[entry.cid] === entry;
  }

  function drop(client, entry) {
    clearTimer(entry);
    if (isCurrent(client, entry)) delete stateOf(client).entries[entry.cid];
  }

  function applyPush(entry, isOnline, ids) {
    var next = Object.create(null);
    Object.keys(entry.known).forEach(function (id) {
      next[id] = entry.known[id];
    });
    ids.forEach(function (id) {
      next[id] = isOnline;
    });
    var changes = difference(entry.known, next);
    entry.known = next;
    emitChanges(entry, changes);
  }

  // Asks the server once per entry at a time; resolves to the known state.
  function request(client, entry) {
    if (entry.pending) return entry.pending;
    var conversation = entry.conversations[0];
    var pending = sendStatus(conversation, true, entry.ttl).then(
      function (response) {
        // Given up for a newer request after a reconnect.
        if (entry.pending !== pending) return entry.known || {};
        entry.pending = null;
        var convMessage = response.convMessage || {};
        var online = (response.sessionMessage || {}).onlineSessionPeerIds || [];
        var next = Object.create(null);
        (convMessage.m || []).forEach(function (id) {
          next[id] = false;
        });
        online.forEach(function (id) {
          next[id] = true;
        });
        var before = entry.known;
        entry.known = next;
        if (!isCurrent(client, entry)) return entry.known;
        if (convMessage.statusTTL > 0) schedule(client, entry, convMessage.statusTTL * 750);
        if (before) emitChanges(entry, difference(before, next));
        // A push may overtake the answer inside the SDK's promise chains.
        var early = entry.early;
        entry.early = [];
        early.forEach(function (push) {
          applyPush(entry, push.isOnline, push.ids);
        });
        return entry.known;
      },
      function (error) {
        if (entry.pending === pending) {
          entry.pending = null;
          entry.early = [];
        }
        throw error;
      }
    );
    entry.pending = pending;
    return pending;
  }

  // A subscription the application still counts on must be held by the server
  // again: after a reconnect, and before its time to live is over.
  function renew(client, entry) {
    if (!isCurrent(client, entry)) return;
    if (!stateOf(client).connected) return;
    request(client, entry).catch(function (error) {
      if (!isCurrent(client, entry)) return;
      if (isFinal(error)) {
        drop(client, entry);
        emit(entry, 'presenceend', error);
      } else {
        schedule(client, entry, RETRY_MS);
      }
    });
  }

  function subscribePresence(options) {
    var conversation = this;
    var client = conversation._client;
    var entries = stateOf(client).entries;
    var entry = entries[conversation.id];
    if (!entry) {
      entry = {
        cid: conversation.id,
        conversations: [],
        known: null,
        ttl: undefined,
        pending: null,
        early: [],
        timer: null,
      };
      entries[conversation.id] = entry;
    }
    if (entry.conversations.indexOf(conversation) === -1) entry.conversations.push(conversation);
    if (options && options.ttl) entry.ttl = options.ttl;
    var fresh = !entry.known;
    return request(client, entry).then(snapshot, function (error) {
      if (fresh || isFinal(error)) drop(client, entry);
      throw error;
    });
  }

  function unsubscribePresence() {
    var conversation = this;
    var client = conversation._client;
    var state = stateOf(client);
    var entry = state.entries[conversation.id];
    if (!entry) return Promise.resolve();
    drop(client, entry);
    // A subscription ends with its session: nothing to say on a lost connection.
    if (!state.connected) return Promise.resolve();
    var settled = (entry.pending || Promise.resolve()).catch(function () {});
    return settled
      .then(function () {
        // Subscribed again in the meantime: the server must keep it.
        if (state.entries[conversation.id]) return undefined;
        return sendStatus(conversation, false);
      })
      .then(
        function () {},
        function (error) {
          if (!isFinal(error) && state.connected) throw error;
        }
      );
  }

  function onPresence(client, presenceMessage) {
    var entry = presenceMessage && stateOf(client).entries[presenceMessage.cid];
    if (!entry) return;
    var push = {
      isOnline: presenceMessage.status === ON,
      ids: presenceMessage.sessionPeerIds || [],
    };
    if (entry.pending || !entry.known) entry.early.push(push);
    else applyPush(entry, push.isOnline, push.ids);
  }

  function onIMClientCreate(client) {
    var state = stateOf(client);

    function each(visit) {
      Object.keys(state.entries).forEach(function (cid) {
        visit(state.entries[cid]);
      });
    }

    function forgetAll() {
      each(function (entry) {
        drop(client, entry);
      });
    }

    // The SDK gives every command it has no use for to this event.
    client.on('unhandledmessage', function (command) {
      if (command.cmd === PRESENCE) onPresence(client, command.presenceMessage);
    });
    client.on('disconnect', function () {
      state.connected = false;
      each(clearTimer);
    });
    client.on('reconnect', function () {
      state.connected = true;
      each(function (entry) {
        // What was asked on the old socket is never answered.
        entry.pending = null;
        entry.early = [];
        renew(client, entry);
      });
    });
    client.on('kicked', function (payload, conversation) {
      var entry = conversation && state.entries[conversation.id];
      if (entry) drop(client, entry);
    });
    client.on('close', forgetAll);
    client.on('conflict', forgetAll);
  }

  function onConversationCreate(conversation) {
    [
      ['subscribePresence', subscribePresence],
      ['unsubscribePresence', unsubscribePresence],
    ].forEach(function (method) {
      Object.defineProperty(conversation, method[0], {
        value: method[1],
        configurable: true,
        writable: true,
      });
    });
  }

  return {
    PresencePlugin: {
      name: 'leancloud-presence',
      onIMClientCreate: onIMClientCreate,
      onConversationCreate: onConversationCreate,
    },
  };
});
