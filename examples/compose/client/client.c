// Says something to the server, prints what it answers, and says goodbye.
#include "net.h"

static void say(const char *port, const char *words) {
    const char *host = getenv("SERVER");
    struct addrinfo *at = address(host ? host : "server", port);
    int server = socket(at->ai_family, at->ai_socktype, 0);
    if (server < 0)
        fail("socket");
    if (connect(server, at->ai_addr, at->ai_addrlen))
        fail("connect");
    if (write(server, words, strlen(words)) < 0)
        fail("write");
    char text[256];
    ssize_t length = read(server, text, sizeof text);
    printf("client: %s -> %.*s\n", words, length < 0 ? 0 : (int)length, text);
    close(server);
    freeaddrinfo(at);
}

int main(int argc, char **argv) {
    say(port(argc, argv), GREETING);
    say(argv[1], "bye");
    return 0;
}
