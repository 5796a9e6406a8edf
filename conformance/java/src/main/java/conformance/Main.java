package conformance;

import cn.leancloud.AVException;
import cn.leancloud.callback.AVCallback;
import cn.leancloud.core.AVOSCloud;
import cn.leancloud.im.AVIMOptions;
import cn.leancloud.im.v2.AVIMClient;
import cn.leancloud.im.v2.AVIMConversation;
import cn.leancloud.im.v2.AVIMException;
import cn.leancloud.im.v2.AVIMMessage;
import cn.leancloud.im.v2.AVIMMessageHandler;
import cn.leancloud.im.v2.AVIMMessageManager;
import cn.leancloud.im.v2.callback.AVIMClientCallback;
import cn.leancloud.im.v2.callback.AVIMConversationCallback;
import cn.leancloud.im.v2.callback.AVIMConversationCreatedCallback;
import cn.leancloud.im.v2.callback.AVIMMessagesQueryCallback;
import cn.leancloud.im.v2.messages.AVIMTextMessage;
import cn.leancloud.session.AVConnectionManager;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * Runs the page's samples and their receiving side through the official Java
 * SDK: {@code -Dserver=http://127.0.0.1:PORT -DappId=… -DappKey=… -Dsdk=VERSION
 * -Dresults=FILE}. The samples share their members, and the same members get
 * the same conversation: {@code -Dpart=create|ttl} says which one runs, each
 * with an app of its own.
 */
public final class Main {
  private static final long TIMEOUT_SECONDS = 15;

  private record Received(String client, AVIMMessage message, AVIMConversation conversation) {}

  private interface Body {
    void run() throws Exception;
  }

  private static final BlockingQueue<Received> RECEIVED = new LinkedBlockingQueue<>();
  private static final List<String> LINES = new ArrayList<>();
  private static int failed;

  private Main() {}

  public static void main(String[] arguments) {
    int status = 1;
    try {
      status = run();
    } catch (Exception error) {
      error.printStackTrace(System.out);
    }
    // The SDK leaves threads behind.
    System.exit(status);
  }

  private static int run() throws Exception {
    String server = System.getProperty("server");
    AVOSCloud.initialize(System.getProperty("appId"), System.getProperty("appKey"), server);
    // The SDK asks the route for TLS always; a plain server is named directly.
    AVIMOptions.getGlobalOptions().setRtmServer(server.replaceFirst("^http", "ws") + "/");
    AVIMMessageManager.registerDefaultMessageHandler(
        new AVIMMessageHandler() {
          @Override
          public void onMessage(AVIMMessage message, AVIMConversation conversation, AVIMClient client) {
            RECEIVED.add(new Received(client.getClientId(), message, conversation));
          }
        });

    connect();

    if ("ttl".equals(System.getProperty("part"))) {
      scenario("the sample with a time to live", () ->
          sample(Page::createWithTtl, "这里是临时对话，一小时之后，这个对话就会消失", 3600));
    } else {
      // What this SDK asks for when the app names no time to live: three days.
      scenario("the sample without a time to live", () ->
          sample(Page::create, "这里是临时对话", 259_200));
      scenario("create, send, receive and answer", Main::talk);
      scenario("history", Main::history);
    }

    Files.write(
        Path.of(System.getProperty("results")), LINES, StandardCharsets.UTF_8);
    return failed == 0 ? 0 : 1;
  }

  private static void scenario(String name, Body body) {
    String outcome = "pass";
    try {
      body.run();
    } catch (Exception | AssertionError error) {
      outcome = "fail";
      failed += 1;
      error.printStackTrace(System.out);
    }
    System.out.println(outcome + " java " + System.getProperty("sdk") + " page / " + name);
    LINES.add(
        String.format(
            "{\"sdk\":\"java-%s\",\"suite\":\"page\",\"scenario\":\"%s\",\"outcome\":\"%s\"}",
            System.getProperty("sdk"), name, outcome));
  }

  private static void sample(Runnable sample, String text, int ttl) throws Exception {
    open("Jerry");
    open("William");
    long began = System.currentTimeMillis() / 1000;
    sample.run();
    List<String> receivers = new ArrayList<>();
    String conversation = null;
    while (receivers.size() < 2) {
      Received received = receive(text);
      check("Tom".equals(received.message().getFrom()), "the message is from Tom");
      conversation = received.message().getConversationId();
      receivers.add(received.client());
    }
    Collections.sort(receivers);
    check(receivers.equals(List.of("Jerry", "William")), "both received it, got " + receivers);
    check(conversation.startsWith("_tmp:"), "it is a temporary conversation");
    AVIMConversation seen = AVIMClient.getInstance("Jerry").getTemporaryConversation(conversation);
    done(future -> seen.fetchInfoInBackground(whenDone(future)));
    // 6.0.5 learns the life granted on the creator's side only.
    long left = AVIMClient.getInstance("Tom").getTemporaryConversation(conversation).getTemporaryExpiredat() - began;
    check(Math.abs(left - ttl) < 120, "it lives for " + ttl + " s, got " + left);
    List<String> members = new ArrayList<>(seen.getMembers());
    Collections.sort(members);
    check(members.equals(List.of("Jerry", "Tom", "William")), "the members, got " + members);
  }

  private static void talk() throws Exception {
    AVIMClient anna = open("anna");
    open("bert");
    AVIMConversation conversation = createTemporary(anna, 600, "bert");
    send(conversation, "hello bert");
    Received atBert = receive("hello bert");
    check("bert".equals(atBert.client()), "bert received it");
    check("anna".equals(atBert.message().getFrom()), "from anna");
    send(atBert.conversation(), "hello anna");
    Received atAnna = receive("hello anna");
    check("anna".equals(atAnna.client()), "anna received the answer");
    check(conversation.getConversationId().equals(atAnna.message().getConversationId()), "same conversation");
  }

  private static void history() throws Exception {
    AVIMClient carl = open("carl");
    AVIMClient dora = open("dora");
    AVIMConversation conversation = createTemporary(carl, 600, "dora");
    List<String> texts = List.of("one", "two", "three");
    for (String text : texts) {
      send(conversation, text);
    }
    receive("three");
    AVIMConversation atDora = dora.getConversation(conversation.getConversationId());
    List<AVIMMessage> messages =
        done(future ->
            atDora.queryMessagesFromServer(
                10,
                new AVIMMessagesQueryCallback() {
                  @Override
                  public void done(List<AVIMMessage> found, AVIMException e) {
                    settle(future, found, e);
                  }
                }));
    List<String> found = new ArrayList<>();
    for (AVIMMessage message : messages) {
      found.add(((AVIMTextMessage) message).getText());
    }
    check(found.equals(texts), "the history in order, got " + found);
  }

  /** Outside of Android the SDK opens no connection by itself. */
  private static void connect() throws Exception {
    done((CompletableFuture<Object> future) ->
        AVConnectionManager.getInstance()
            .startConnection(
                new AVCallback<Object>() {
                  @Override
                  protected void internalDone0(Object nothing, AVException e) {
                    if (e == null) {
                      future.complete(true);
                    } else {
                      future.completeExceptionally(e);
                    }
                  }
                }));
  }

  private static AVIMClient open(String id) throws Exception {
    AVIMClient client = AVIMClient.getInstance(id);
    return done(future ->
        client.open(
            new AVIMClientCallback() {
              @Override
              public void done(AVIMClient opened, AVIMException e) {
                settle(future, client, e);
              }
            }));
  }

  private static AVIMConversation createTemporary(AVIMClient client, int ttl, String... members)
      throws Exception {
    return done(future ->
        client.createTemporaryConversation(
            Arrays.asList(members),
            ttl,
            new AVIMConversationCreatedCallback() {
              @Override
              public void done(AVIMConversation conversation, AVIMException e) {
                settle(future, conversation, e);
              }
            }));
  }

  private static void send(AVIMConversation conversation, String text) throws Exception {
    AVIMTextMessage message = new AVIMTextMessage();
    message.setText(text);
    done(future -> conversation.sendMessage(message, whenDone(future)));
    check(message.getMessageId() != null, "the sent message has an id");
  }

  private static Received receive(String text) throws Exception {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(TIMEOUT_SECONDS);
    while (true) {
      Received received = RECEIVED.poll(deadline - System.nanoTime(), TimeUnit.NANOSECONDS);
      check(received != null, "\"" + text + "\" is received within " + TIMEOUT_SECONDS + " s");
      if (received.message() instanceof AVIMTextMessage message && text.equals(message.getText())) {
        return received;
      }
    }
  }

  private static AVIMConversationCallback whenDone(CompletableFuture<Object> future) {
    return new AVIMConversationCallback() {
      @Override
      public void done(AVIMException e) {
        settle(future, true, e);
      }
    };
  }

  private interface Ask<T> {
    void with(CompletableFuture<T> future);
  }

  private static <T> T done(Ask<T> ask) throws Exception {
    CompletableFuture<T> future = new CompletableFuture<>();
    ask.with(future);
    return future.get(TIMEOUT_SECONDS, TimeUnit.SECONDS);
  }

  private static <T> void settle(CompletableFuture<T> future, T value, AVIMException error) {
    if (error == null) {
      future.complete(value);
    } else {
      future.completeExceptionally(error);
    }
  }

  private static void check(boolean condition, String what) {
    if (!condition) {
      throw new AssertionError("expected: " + what);
    }
  }
}
