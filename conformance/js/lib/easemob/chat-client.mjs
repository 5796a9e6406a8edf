// The names of the user's page, which are those of the React Native SDK, over
// the Web SDK: both send the same requests.

/** The page's conversation types: 0 is a single chat, 1 a group. */
const CHAT_TYPES = ['singleChat', 'groupChat'];

/** What the page calls `ChatClient`, for a device that is logged in. */
export function chatClient({ conn }) {
  const chatManager = {
    fetchConversationsFromServer: () => conn.getConversationlist(),

    fetchConversationsFromServerWithPage: (pageSize, pageNum) =>
      conn.getConversationlist({ pageNum, pageSize }),

    fetchHistoryMessages: (convId, chatType, pageSize, startMsgId) =>
      conn.getHistoryMessages({
        targetId: convId,
        chatType: CHAT_TYPES[chatType],
        pageSize,
        cursor: startMsgId || -1,
        searchDirection: 'up',
      }),

    removeMessagesFromServerWithMsgIds: (convId, convType, msgIds) =>
      conn.removeHistoryMessages({ targetId: convId, chatType: CHAT_TYPES[convType], messageIds: msgIds }),

    removeMessagesFromServerWithTimestamp: (convId, convType, timestamp) =>
      conn.removeHistoryMessages({ targetId: convId, chatType: CHAT_TYPES[convType], beforeTimeStamp: timestamp }),

    removeConversationFromServer: (convId, convType, isDeleteMessage) =>
      conn.deleteConversation({
        channel: convId,
        chatType: CHAT_TYPES[convType],
        deleteRoam: isDeleteMessage,
      }),
  };
  return { getInstance: () => ({ chatManager }) };
}
