// Sends back what each client says, in capital letters, until one says "bye".
#include "net.h"
#include <ctype.h>

int main(int argc, char **argv) {
    struct addrinfo *at = address(NULL, port(argc, argv));
    int server = socket(at->ai_family, at->ai_socktype, 0), on = 1;
    if (server < 0)
        fail("socket");
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(server, at->ai_addr, at->ai_addrlen) || listen(server, 8))
        fail("bind");
    puts("server: listening");
    fflush(stdout);
    for (int bye = 0; !bye;) {
        char text[256];
        int client = accept(server, NULL, NULL);
        if (client < 0)
            fail("accept");
        ssize_t length = read(client, text, sizeof text);
        bye = length == 3 && !memcmp(text, "bye", 3);
        for (ssize_t i = 0; i < length; i++)
            text[i] = toupper(text[i]);
        if (length > 0 && write(client, text, length) != length)
            perror("write");
        close(client);
    }
    return 0;
}
