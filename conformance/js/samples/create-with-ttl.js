realtime.createIMClient('Tom').then(function(tom) {
  return tom.createTemporaryConversation({
    members: ['Jerry', 'William'],
    ttl: 3600,
  });
}).then(function(conversation) {
  return conversation.send(new AV.TextMessage('这里是临时对话，一小时之后，这个对话就会消失'));
}).catch(console.error);
