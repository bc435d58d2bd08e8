/* A WebSocket load generator: one thread, epoll, nothing but libc.
 *
 * It connects to 127.0.0.1 only. Clients, messages in flight, message sizes, buffers and the time of the
 * whole run are bounded; at the time limit it stops itself.
 *
 *     load port=8000 scenario=fanout clients=1000 window=1,8 publish='{"action":"say","text":"%M"}'
 *
 * Scenarios
 *   fanout   Members of `rooms` rooms (one room of everybody, unless said otherwise). `window` messages
 *            are in flight; one is done when every member has it, the sender included. The first `senders`
 *            members publish in turn; with more than one, no order is looked for.
 *   echo     Every client has `window` messages in flight: for each answer it sends the next.
 *   connect  Every client connects, joins, closes, and begins again.
 *   idle     Every client connects and stays.
 *
 * In templates %M stands for a marker and padding, which have to come back verbatim inside of whatever
 * the server puts around them, and %R for the number of a room. What happens is said on stdout, one JSON
 * object a line: `open`, then `measure` and `done` for each window.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_CLIENTS = 20000,
    MAX_PORTS = 8,
    MAX_WINDOW = 64,
    MAX_WINDOWS = 8,
    MAX_PAYLOAD = 60000,
    MAX_TEMPLATE = 400,
    MAX_MESSAGE = MAX_PAYLOAD + 4096, /* a number in place of each %R of a template is far shorter */
    MAX_KEPT = 32 << 20,
    INPUT = 256 << 10,
    SAMPLES = 1 << 16,
    SOURCES = 200,
    MARKER = 25, /* '~', 8 hexadecimal digits of the number, 16 of the time */
};
#define SECOND 1000000000ull

/* ---- Options ---- */

static struct {
    int ports[MAX_PORTS], port_count;
    int windows[MAX_WINDOWS], window_count;
    int clients, rooms, members, slow, payload, concurrency, awaited, heartbeat, senders;
    double warmup, seconds, settle, stall, limit;
    const char *scenario, *path, *publish, *join;
} option = {
    .clients = 100, .rooms = 1, .payload = 128, .concurrency = 100, .senders = 1, .warmup = 0.5, .seconds = 2,
    .settle = 0.3, .stall = 3, .limit = 120, .scenario = "fanout", .path = "/", .publish = "%M",
};

static void fail(const char *format, ...)
{
    char text[200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    printf("{\"event\": \"failed\", \"reason\": \"%s\"}\n", text);
    fflush(stdout);
    _exit(1);
}

static int numbers(const char *text, int *into, int most)
{
    int count = 0;
    for (const char *at = text; at && *at && count < most; at = strchr(at, ',')) {
        if (*at == ',') at++;
        into[count++] = atoi(at);
    }
    return count;
}

static void set_option(const char *argument)
{
    const char *value = strchr(argument, '=');
    if (!value) fail("not key=value: %.40s", argument);
    size_t length = value++ - argument;
#define IS(key) (length == strlen(key) && !strncmp(argument, key, length))
    if (IS("port")) option.port_count = numbers(value, option.ports, MAX_PORTS);
    else if (IS("window")) option.window_count = numbers(value, option.windows, MAX_WINDOWS);
    else if (IS("clients")) option.clients = atoi(value);
    else if (IS("rooms")) option.rooms = atoi(value);
    else if (IS("members")) option.members = atoi(value);
    else if (IS("slow")) option.slow = atoi(value);
    else if (IS("payload")) option.payload = atoi(value);
    else if (IS("concurrency")) option.concurrency = atoi(value);
    else if (IS("awaited")) option.awaited = atoi(value);
    else if (IS("heartbeat")) option.heartbeat = atoi(value);
    else if (IS("senders")) option.senders = atoi(value);
    else if (IS("warmup")) option.warmup = atof(value);
    else if (IS("seconds")) option.seconds = atof(value);
    else if (IS("settle")) option.settle = atof(value);
    else if (IS("stall")) option.stall = atof(value);
    else if (IS("limit")) option.limit = atof(value);
    else if (IS("scenario")) option.scenario = value;
    else if (IS("path")) option.path = value;
    else if (IS("publish")) option.publish = value;
    else if (IS("join")) option.join = value;
    else fail("unknown option: %.40s", argument);
#undef IS
}

static bool is_scenario(const char *name) { return !strcmp(option.scenario, name); }

/* A template is short, and says %M once at most: what `fill` makes of it has a bound then. */
static void check_template(const char *template)
{
    const char *first = template ? strstr(template, "%M") : NULL;
    if (template && strlen(template) > MAX_TEMPLATE) fail("a template is too long");
    if (first && strstr(first + 2, "%M")) fail("a template says %%M twice");
}

static void check_options(void)
{
    check_template(option.publish);
    check_template(option.join);
    if (!option.window_count) option.windows[option.window_count++] = 1;
    if (!option.members) option.members = option.clients;
    for (int i = 0; i < option.window_count; i++)
        if (option.windows[i] < 1 || option.windows[i] > MAX_WINDOW) fail("window out of bounds");
    for (int i = 0; i < option.port_count; i++)
        if (option.ports[i] < 1 || option.ports[i] > 65535) fail("port out of bounds");
    if (!option.port_count) fail("no port");
    if (option.clients < 1 || option.clients > MAX_CLIENTS) fail("clients out of bounds");
    if (option.rooms < 1 || option.rooms > 1000000) fail("rooms out of bounds");
    if (option.members < 1 || option.members > option.clients) fail("members out of bounds");
    if (option.senders < 1 || option.senders > option.members) fail("senders out of bounds");
    if (option.slow < 0 || option.slow >= option.clients) fail("slow out of bounds");
    if (option.payload < MARKER || option.payload > MAX_PAYLOAD) fail("payload out of bounds");
    if (option.limit > 600) fail("limit out of bounds");
}

/* ---- Clients ---- */

struct bytes {
    uint8_t *at;
    size_t size, room;
};

enum state { NEW, CONNECTING, UPGRADING, JOINING, READY, CLOSING, GONE };

struct client {
    int fd, number, awaited;
    enum state state;
    bool slow, wants_to_write;
    struct bytes unread, unsent;
    uint32_t sent;               /* echo: number of the last message */
    uint32_t seen[MAX_WINDOW];   /* fanout: number of the last message seen in each slot */
    uint32_t newest;             /* of those that came back */
};

static struct client *clients;
static int poller, opening, ready, failed, closed_by_server;
static char first_failure[120];

/* ---- What is measured ---- */

static struct slot {
    uint32_t number;
    int missing;
} slots[MAX_WINDOW];

static int window = 1, in_flight;
static uint32_t next_number = 1;
static bool publishing, measuring;
static uint64_t last_progress;
static struct {
    uint64_t received, sent, connected, bytes, reads, lost, duplicates, reordered, foreign;
    uint64_t latencies;
} counted;
static uint32_t latency[SAMPLES]; /* microseconds, a reservoir of them */
static uint64_t random_state = 0x9E3779B97F4A7C15ull;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static uint64_t after(double seconds) { return now() + (uint64_t)(seconds * SECOND); }

static uint64_t random_number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

static void count_delivery(size_t size, uint64_t nanoseconds)
{
    if (!measuring) return;
    counted.received++;
    counted.bytes += size;
    uint64_t place = counted.latencies++;
    if (place >= SAMPLES) place = random_number() % counted.latencies;
    if (place < SAMPLES) latency[place] = nanoseconds / 1000;
}

/* ---- Writing ---- */

static void keep(struct bytes *bytes, const void *data, size_t size)
{
    if (bytes->size + size > MAX_KEPT) fail("more than %d bytes would have to be kept", MAX_KEPT);
    if (bytes->size + size > bytes->room) {
        bytes->room = (bytes->size + size) * 2;
        bytes->at = realloc(bytes->at, bytes->room);
        if (!bytes->at) fail("out of memory");
    }
    memcpy(bytes->at + bytes->size, data, size);
    bytes->size += size;
}

static void watch(struct client *client)
{
    struct epoll_event event = { .data.ptr = client };
    if (!(client->slow && publishing)) event.events |= EPOLLIN;
    if (client->wants_to_write) event.events |= EPOLLOUT;
    epoll_ctl(poller, EPOLL_CTL_MOD, client->fd, &event);
}

static void end(struct client *client, bool expected, const char *reason);

static void put(struct client *client, const void *data, size_t size)
{
    if (client->state == GONE) return;
    ssize_t left = 0;
    if (!client->unsent.size) {
        left = send(client->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (left == (ssize_t)size) return;
        if (left < 0 && errno != EAGAIN) return end(client, false, strerror(errno));
        if (left < 0) left = 0;
    }
    keep(&client->unsent, (const char *)data + left, size - left);
    client->wants_to_write = true;
    watch(client);
}

static void put_frame(struct client *client, int opcode, const uint8_t *payload, size_t size)
{
    static uint8_t frame[MAX_MESSAGE + 16];
    size_t head = 2;
    if (size > MAX_MESSAGE) fail("a frame of %zu bytes", size);
    frame[0] = 0x80 | opcode;
    if (size < 126) {
        frame[1] = 0x80 | size;
    } else {
        frame[1] = 0x80 | 126;
        if (size > 0xFFFF) fail("a frame of %zu bytes", size);
        frame[2] = size >> 8;
        frame[3] = size;
        head = 4;
    }
    uint32_t mask = random_number();
    memcpy(frame + head, &mask, 4);
    uint8_t *masked = frame + head + 4;
    for (size_t i = 0; i < size; i++) masked[i] = payload[i] ^ ((uint8_t *)&mask)[i & 3];
    put(client, frame, head + 4 + size);
}

static size_t fill(char *into, const char *template, int room, uint32_t number)
{
    char *at = into;
    for (const char *from = template; *from; from++) {
        if (from[0] == '%' && from[1] == 'R') {
            at += sprintf(at, "%d", room);
            from++;
        } else if (from[0] == '%' && from[1] == 'M') {
            at += sprintf(at, "~%08x%016llx", number, (unsigned long long)now());
            for (int i = MARKER; i < option.payload; i++) *at++ = 'a' + i % 26;
            from++;
        } else {
            *at++ = *from;
        }
    }
    return at - into;
}

static void put_message(struct client *client, const char *template, int room, uint32_t number)
{
    static char text[MAX_MESSAGE + 64];
    put_frame(client, 1, (uint8_t *)text, fill(text, template, room, number));
    if (measuring) counted.sent++;
}

/* ---- Rooms: room r has the `members` clients from r * members on, in a circle ---- */

static struct client *member(int room, int index)
{
    return &clients[((int64_t)room * option.members + index) % option.clients];
}

static int readers(int room)
{
    int count = 0;
    for (int i = 0; i < option.members; i++) {
        struct client *client = member(room, i);
        count += client->state == READY && !client->slow;
    }
    return count;
}

static void publish_next(void)
{
    static int readers_of_all;
    int room = next_number % option.rooms;
    struct slot *slot = &slots[next_number % window];
    struct client *sender = member(room, next_number % option.senders);
    if (sender->state != READY) fail("the sender is gone: %s", first_failure);
    if (!readers_of_all || option.slow || closed_by_server) readers_of_all = readers(room);
    slot->number = next_number++;
    slot->missing = readers_of_all;
    in_flight++;
    put_message(sender, option.publish, room, slot->number);
}

static void publish_all(void)
{
    while (publishing && in_flight < window && !slots[next_number % window].number) publish_next();
}

static void arrived(struct slot *slot)
{
    if (--slot->missing > 0) return;
    slot->number = 0;
    in_flight--;
}

static void abandon(void)
{
    for (int i = 0; i < window; i++)
        if (slots[i].number) {
            counted.lost += slots[i].missing;
            slots[i].number = 0;
        }
    in_flight = 0;
}

/* ---- Reading ---- */

static void send_echo(struct client *client)
{
    if (!publishing) return;
    in_flight++;
    put_message(client, option.publish, 0, ++client->sent);
}

static void take_broadcast(struct client *client, uint32_t number, size_t size, uint64_t latency)
{
    struct slot *slot = &slots[number % window];
    uint32_t *seen = &client->seen[number % window];
    if (*seen == number) {
        counted.duplicates++;
    } else if (slot->number == number) {
        if (number < client->newest) counted.reordered += option.senders == 1;
        else client->newest = number;
        *seen = number;
        count_delivery(size, latency);
        arrived(slot);
    }
}

static uint64_t hexadecimal(const uint8_t *digits, int count)
{
    uint64_t value = 0;
    for (int i = 0; i < count; i++) value = value << 4 | ((digits[i] & 15) + (digits[i] > '9' ? 9 : 0));
    return value;
}

static void step_in(struct client *client);

static void take_text(struct client *client, const uint8_t *text, size_t size, uint64_t time)
{
    const uint8_t *marker = memchr(text, '~', size);
    if (option.heartbeat && size == 1 && *text == '2') return put_frame(client, 1, (uint8_t *)"3", 1);
    if (!marker || text + size - marker < MARKER) {
        if (client->state == JOINING && --client->awaited == 0) step_in(client);
        else if (client->state == READY) counted.foreign++;
        return;
    }
    if (client->state != READY) return;
    uint32_t number = hexadecimal(marker + 1, 8);
    uint64_t sent = hexadecimal(marker + 9, 16);
    last_progress = time;
    if (is_scenario("echo")) {
        if (number <= client->newest) {
            counted.duplicates++;
            return;
        }
        counted.reordered += number != client->newest + 1;
        client->newest = number;
        in_flight--;
        count_delivery(size, time - sent);
        send_echo(client);
    } else {
        take_broadcast(client, number, size, time - sent);
    }
}

/* The client is where it wants to be. */
static void step_in(struct client *client)
{
    client->state = READY;
    opening--;
    ready++;
    if (is_scenario("connect")) {
        client->state = CLOSING;
        ready--;
        put_frame(client, 8, (uint8_t *)"\x03\xe8", 2);
    }
}

static void join_all(struct client *client)
{
    static char text[MAX_MESSAGE];
    client->state = JOINING;
    client->awaited = option.awaited;
    if (option.join && option.rooms == 1) {
        put_frame(client, 1, (uint8_t *)text, fill(text, option.join, 0, 0));
    } else if (option.join) {
        client->awaited = 0;
        for (int room = 0; room < option.rooms; room++) {
            int64_t first = (int64_t)room * option.members % option.clients;
            if ((client->number - first + option.clients) % option.clients >= option.members) continue;
            put_frame(client, 1, (uint8_t *)text, fill(text, option.join, room, 0));
            client->awaited += option.awaited;
        }
    }
    if (!client->awaited && client->state == JOINING) step_in(client);
}

static size_t take_response(struct client *client, const uint8_t *data, size_t size)
{
    const uint8_t *last = memmem(data, size, "\r\n\r\n", 4);
    if (!last) return 0;
    if (memcmp(data, "HTTP/1.1 101", 12)) {
        char line[60] = "";
        for (int i = 0; i < 59 && data[i] >= ' '; i++) line[i] = data[i] == '"' ? '\'' : data[i];
        end(client, false, line);
        return size;
    }
    join_all(client);
    return last + 4 - data;
}

static void take_frame(struct client *client, int head, const uint8_t *payload, size_t size, uint64_t time)
{
    int opcode = head & 15;
    if ((head & 0xF0) != 0x80) end(client, false, "a fragment, or reserved bits");
    else if (opcode == 1 || opcode == 2) take_text(client, payload, size, time);
    else if (opcode == 9) put_frame(client, 10, payload, size);
    else if (opcode == 8 && client->state == CLOSING) end(client, true, "");
    else if (opcode == 8) end(client, false, "closed by the server");
}

/* How many bytes of `data` were whole frames, and are dealt with. */
static size_t take(struct client *client, const uint8_t *data, size_t size, uint64_t time)
{
    size_t done = client->state == UPGRADING ? take_response(client, data, size) : 0;
    while (client->state >= JOINING && client->state < GONE && size - done >= 2) {
        const uint8_t *frame = data + done;
        size_t head = 2, length = frame[1];
        if (length == 126) head = 4;
        else if (length == 127) head = 10;
        if (size - done < head) break;
        if (head > 2) {
            length = 0;
            for (size_t i = 2; i < head; i++) length = length << 8 | frame[i];
        }
        if (length > MAX_KEPT) fail("a frame of %zu bytes", length);
        if (size - done < head + length) break;
        take_frame(client, frame[0], frame + head, length, time);
        done += head + length;
    }
    return client->state == GONE ? size : done;
}

static void on_readable(struct client *client)
{
    static uint8_t input[INPUT];
    uint8_t *data = input;
    size_t kept = client->unread.size;
    if (kept > INPUT / 2) fail("a message that is larger than what this reads at once");
    memcpy(input, client->unread.at ? client->unread.at : input, kept);
    ssize_t got = recv(client->fd, input + kept, INPUT - kept, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return end(client, client->state == CLOSING, got ? strerror(errno) : "end of file");
    if (measuring) counted.reads++;
    size_t size = kept + got, done = take(client, data, size, now());
    if (client->state == GONE) return;
    client->unread.size = 0;
    if (done < size) keep(&client->unread, data + done, size - done);
}

/* ---- Connections ---- */

static void begin(struct client *client)
{
    static unsigned source;
    int yes = 1, small = 4096;
    struct sockaddr_in address = { .sin_family = AF_INET };
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0) fail("socket: %s", strerror(errno));
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    client->slow = client->number >= option.clients - option.slow;
    if (client->slow) setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    /* More connections than one address has ports: they come from many addresses of the loopback. */
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + source++ % SOURCES);
    if (bind(client->fd, (void *)&address, sizeof address)) fail("bind: %s", strerror(errno));
    client->state = CONNECTING;
    client->wants_to_write = true;
    client->unread.size = client->unsent.size = 0;
    opening++;
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT, .data.ptr = client };
    epoll_ctl(poller, EPOLL_CTL_ADD, client->fd, &event);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(option.ports[client->number % option.port_count]);
    if (connect(client->fd, (void *)&address, sizeof address) && errno != EINPROGRESS)
        end(client, false, strerror(errno));
}

static void upgrade(struct client *client)
{
    char request[1024];
    int size = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        option.path, option.ports[client->number % option.port_count]);
    if (size >= (int)sizeof request) fail("the path is too long");
    client->state = UPGRADING;
    client->wants_to_write = false;
    watch(client);
    put(client, request, size);
}

/* The connection is over; what it still had to receive is not waited for. */
static void end(struct client *client, bool expected, const char *reason)
{
    enum state was = client->state;
    if (was == GONE) return;
    client->state = GONE;
    close(client->fd);
    if (was < READY) opening--;
    if (was == READY) ready--;
    if (was == CLOSING && measuring) counted.connected++;
    if (expected) return;
    if (!*first_failure) snprintf(first_failure, sizeof first_failure, "%s", reason);
    if (was < READY) failed++;
    else closed_by_server++;
    for (int i = 0; i < window && was == READY && !client->slow && option.rooms == 1; i++)
        if (slots[i].number && client->seen[i] != slots[i].number) {
            counted.lost++;
            arrived(&slots[i]);
        }
}

static void on_writable(struct client *client)
{
    if (client->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        return error ? end(client, false, strerror(error)) : upgrade(client);
    }
    struct bytes *unsent = &client->unsent;
    ssize_t left = send(client->fd, unsent->at, unsent->size, MSG_NOSIGNAL);
    if (left < 0 && errno != EAGAIN) return end(client, false, strerror(errno));
    if (left > 0) {
        memmove(unsent->at, unsent->at + left, unsent->size - left);
        unsent->size -= left;
    }
    if (!unsent->size) {
        client->wants_to_write = false;
        watch(client);
    }
}

static void turn(int milliseconds)
{
    static struct epoll_event events[1024];
    int count = epoll_wait(poller, events, 1024, milliseconds);
    for (int i = 0; i < count; i++) {
        struct client *client = events[i].data.ptr;
        if (client->state != GONE && events[i].events & EPOLLOUT) on_writable(client);
        if (client->state > CONNECTING && client->state != GONE && events[i].events & ~EPOLLOUT)
            on_readable(client);
    }
}

static void turn_until(uint64_t time)
{
    while (now() < time) turn(10);
}

static void open_all(void)
{
    uint64_t begun = now(), deadline = after(60);
    int next = 0;
    while (ready + failed < option.clients) {
        /* The first is alone for a moment: servers that lose concurrent first subscribers are not
         * measured for that. */
        int most = ready ? option.concurrency : 1;
        while (next < option.clients && opening < most) begin(&clients[next++]);
        turn(20);
        if (next == 1 && ready == 1) turn_until(after(0.3));
        if (now() > deadline) fail("only %d clients were ready after 60 s: %s", ready, first_failure);
        if (failed > 50) fail("clients are refused: %s", first_failure);
    }
    if (failed) fail("%d clients were refused: %s", failed, first_failure);
    double seconds = (now() - begun) / 1e9;
    turn_until(after(option.settle));
    printf("{\"event\": \"open\", \"clients\": %d, \"seconds\": %.3f}\n", ready, seconds);
    fflush(stdout);
}

/* ---- Measuring ---- */

static int ascending(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static void report(double seconds, bool stalled)
{
    size_t count = counted.latencies < SAMPLES ? counted.latencies : SAMPLES;
    qsort(latency, count, sizeof *latency, ascending);
    uint32_t p50 = count ? latency[count / 2] : 0, p99 = count ? latency[count * 99 / 100] : 0;
    printf("{\"event\": \"done\", \"window\": %d, \"seconds\": %.4f, \"received\": %llu, \"sent\": %llu, "
           "\"connected\": %llu, \"bytes\": %llu, \"reads\": %llu, \"lost\": %llu, \"duplicates\": %llu, "
           "\"reordered\": %llu, \"foreign\": %llu, \"p50\": %u, \"p99\": %u, \"closed_by_server\": %d, "
           "\"stalled\": %s, \"first_failure\": \"%s\"}\n",
        window, seconds, (unsigned long long)counted.received, (unsigned long long)counted.sent,
        (unsigned long long)counted.connected, (unsigned long long)counted.bytes,
        (unsigned long long)counted.reads, (unsigned long long)counted.lost,
        (unsigned long long)counted.duplicates, (unsigned long long)counted.reordered,
        (unsigned long long)counted.foreign, p50, p99, closed_by_server, stalled ? "true" : "false",
        first_failure);
    fflush(stdout);
}

static void keep_busy(void)
{
    if (is_scenario("fanout")) publish_all();
    if (is_scenario("connect") && publishing)
        for (int i = 0; i < option.clients; i++)
            if (clients[i].state == GONE) begin(&clients[i]);
    if (failed > 1000) fail("clients are refused: %s", first_failure);
}

/* Work until `deadline`; false if nothing has moved for too long. */
static bool work_until(uint64_t deadline)
{
    bool messages = is_scenario("fanout") || is_scenario("echo");
    while (now() < deadline) {
        keep_busy();
        turn(10);
        if (messages && now() - last_progress > (uint64_t)(option.stall * SECOND)) return false;
    }
    return true;
}

static void drain(void)
{
    uint64_t deadline = after(30);
    publishing = measuring = false;
    while (in_flight && now() < deadline && now() - last_progress < (uint64_t)(option.stall * SECOND)) turn(10);
    abandon();
}

static void measure(void)
{
    memset(slots, 0, sizeof slots);
    for (int i = 0; i < option.clients; i++) memset(clients[i].seen, 0, sizeof clients[i].seen);
    publishing = true;
    last_progress = now();
    for (int i = option.clients - option.slow; i < option.clients; i++) watch(&clients[i]);
    for (int i = 0; is_scenario("echo") && i < option.clients * window; i++) send_echo(&clients[i / window]);
    bool moves = work_until(after(option.warmup));
    memset(&counted, 0, sizeof counted);
    printf("{\"event\": \"measure\", \"window\": %d}\n", window);
    fflush(stdout);
    measuring = true;
    uint64_t begun = now();
    moves = work_until(after(option.seconds)) && moves;
    double seconds = (now() - begun) / 1e9;
    measuring = false;
    if (!moves) abandon();
    printf("{\"event\": \"measured\"}\n");
    fflush(stdout);
    drain();
    report(seconds, !moves);
}

static void out_of_time(int signal)
{
    (void)signal;
    static const char text[] = "{\"event\": \"failed\", \"reason\": \"the time limit\"}\n";
    if (write(STDOUT_FILENO, text, sizeof text - 1)) _exit(1);
    _exit(1);
}

int main(int count, char **arguments)
{
    for (int i = 1; i < count; i++) set_option(arguments[i]);
    check_options();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGALRM, out_of_time);
    alarm((unsigned)option.limit);
    struct rlimit files = { 0, 0 };
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < (rlim_t)option.clients + 50) fail("ulimit -n is %lu", (unsigned long)files.rlim_cur);
    random_state ^= now();
    poller = epoll_create1(EPOLL_CLOEXEC);
    clients = calloc(option.clients, sizeof *clients);
    if (poller < 0 || !clients) fail("out of memory");
    for (int i = 0; i < option.clients; i++) {
        clients[i].number = i;
        clients[i].state = is_scenario("connect") ? GONE : NEW;
    }
    if (!is_scenario("connect")) open_all();
    for (int i = 0; i < option.window_count; i++) {
        window = option.windows[i];
        measure();
    }
    return 0;
}
