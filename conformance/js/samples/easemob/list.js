// 异步方法。同步方法为 fetchConversationsFromServer()。
// pageNum：当前页面，从 1 开始。
// pageSize：每页获取的会话数量。取值范围为 [1,20]。
ChatClient.getInstance()
  .chatManager.fetchConversationsFromServerWithPage(pageSize, pageNum)
  .then((result) => {
    console.log("test:success:", result);
  })
  .catch((error) => {
    console.warn("test:error:", error);
  });
