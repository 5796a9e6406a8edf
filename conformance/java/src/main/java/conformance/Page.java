package conformance;

import cn.leancloud.im.v2.AVIMClient;
import cn.leancloud.im.v2.AVIMConversation;
import cn.leancloud.im.v2.AVIMException;
import cn.leancloud.im.v2.callback.AVIMClientCallback;
import cn.leancloud.im.v2.callback.AVIMConversationCallback;
import cn.leancloud.im.v2.callback.AVIMConversationCreatedCallback;
import cn.leancloud.im.v2.messages.AVIMTextMessage;
import java.util.Arrays;

/** The page's Java samples, verbatim, each as the body of a method. */
final class Page {
  private Page() {}

  static void create() {
AVIMClient client = AVIMClient.getInstance("Tom");
client.open(new AVIMClientCallback() {
    @Override
    public void done(AVIMClient avimClient, AVIMException e) {
    if (null == e) {
        String[] members = {"Jerry", "William"};
        avimClient.createTemporaryConversation(Arrays.asList(members), new AVIMConversationCreatedCallback(){
        @Override
        public void done(AVIMConversation conversation, AVIMException e) {
            if (null == e) {
            AVIMTextMessage msg = new AVIMTextMessage();
            msg.setText("这里是临时对话");
            conversation.sendMessage(msg, new AVIMConversationCallback(){
                @Override
                public void done(AVIMException e) {
                }
            });
            }
        }
        });
    }
    }
});
  }

  static void createWithTtl() {
AVIMClient client = AVIMClient.getInstance("Tom");
client.open(new AVIMClientCallback() {
    @Override
    public void done(AVIMClient avimClient, AVIMException e) {
    if (null == e) {
        String[] members = {"Jerry", "William"};
        avimClient.createTemporaryConversation(Arrays.asList(members), 3600, new AVIMConversationCreatedCallback(){
        @Override
        public void done(AVIMConversation conversation, AVIMException e) {
            if (null == e) {
            AVIMTextMessage msg = new AVIMTextMessage();
            msg.setText("这里是临时对话，一小时之后，这个对话就会消失");
            conversation.sendMessage(msg, new AVIMConversationCallback(){
                @Override
                public void done(AVIMException e) {
                }
            });
            }
        }
        });
    }
    }
});
  }
}
