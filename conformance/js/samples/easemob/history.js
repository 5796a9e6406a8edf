// convId： 会话id
// chatType: 会话类型
// pageSize： 请求最大数量
// startMsgId：其实消息id
ChatClient.getInstance()
  .chatManager.fetchHistoryMessages(convId, chatType, pageSize, startMsgId)
  .then((result) => {
    console.log("test:success:", result);
  })
  .catch((error) => {
    console.warn("test:error:", error);
  });
