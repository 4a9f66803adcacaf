// What client and server have in common.
#pragma once
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    exit(1);
}

// The port that the first argument names.
static const char *port(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s PORT\n", argv[0]);
        exit(2);
    }
    return argv[1];
}

// The address of a host, or of this machine for its servers.
static struct addrinfo *address(const char *host, const char *port) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
    hints.ai_flags = host ? 0 : AI_PASSIVE;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error) {
        fprintf(stderr, "%s: %s\n", host ? host : "*", gai_strerror(error));
        exit(1);
    }
    return found;
}
