/* Pipes, sockets, counters and what waits for them, all within one thread; says what came of
 * each call. tests/linux.rs runs it under Linux and in a container. */
#define _GNU_SOURCE
#include "say.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>

static char text[70000];

static int ready(int fd)
{
    struct pollfd entry = { fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0 };
    poll(&entry, 1, 0);
    return entry.revents;
}

static void pipes(void)
{
    int ends[2], count;
    SAY(pipe2(ends, O_NONBLOCK | O_CLOEXEC));
    SAY(read(ends[0], text, 10));
    SAY(ready(ends[0]));
    SAY(ready(ends[1]));
    SAY(write(ends[1], "hello", 5));
    SAY(ioctl(ends[0], FIONREAD, &count));
    SAY(count);
    SAY(ready(ends[0]));
    struct iovec pieces[] = { { text, 2 }, { text + 2, 100 } };
    SAY(readv(ends[0], pieces, 2));
    SAY(memcmp(text, "hello", 5));
    SAY(fcntl(ends[0], F_GETPIPE_SZ));
    SAY(write(ends[1], text, 65536 - 100));
    SAY(write(ends[1], text, 4096));
    SAY(write(ends[1], text, 100));
    SAY(write(ends[1], text, 5000));
    SAY(ready(ends[1]));
    SAY(read(ends[0], text, 65536));
    SAY(write(ends[1], text, 70000));
    SAY(lseek(ends[0], 0, SEEK_SET));
    SAY(pread(ends[0], text, 1, 0));
    SAY(write(ends[0], text, 1));
    SAY(fsync(ends[0]));
    struct stat s;
    SAY(fstat(ends[0], &s));
    SAY(s.st_mode);
    SAY(close(ends[1]));
    SAY(ready(ends[0]));
    SAY(read(ends[0], text, 70000));
    SAY(read(ends[0], text, 70000));
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    SAY(pipe(ends));
    close(ends[0]);
    SAY(ready(ends[1]));
    SAY(write(ends[1], "x", 1));
    close(ends[1]);
    SAY(mkfifo("fifo", 0600));
    SAY(open("fifo", O_WRONLY | O_NONBLOCK));
    int fd, other;
    OPENS(fd = open("fifo", O_RDONLY | O_NONBLOCK));
    SAY(read(fd, text, 1));
    OPENS(other = open("fifo", O_WRONLY | O_NONBLOCK));
    SAY(read(fd, text, 1));
    SAY(write(other, "fifo", 4));
    SAY(read(fd, text, 10));
    close(other);
    SAY(read(fd, text, 10));
    SAY(ready(fd));
    close(fd);
}

static void counters(void)
{
    uint64_t number = 5;
    int fd;
    OPENS(fd = eventfd(3, EFD_NONBLOCK));
    SAY(ready(fd));
    SAY(write(fd, &number, 8));
    SAY(write(fd, &number, 7));
    SAY(read(fd, &number, 8));
    SAY(number);
    SAY(read(fd, &number, 8));
    SAY(read(fd, &number, 4));
    number = -2;
    SAY(write(fd, &number, 8));
    SAY(ready(fd));
    number = 1;
    SAY(write(fd, &number, 8));
    number = -1;
    SAY(write(fd, &number, 8));
    close(fd);
    OPENS(fd = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
    SAY(read(fd, &number, 8));
    SAY(number);
    SAY(read(fd, &number, 8));
    SAY(read(fd, &number, 8));
    close(fd);
    OPENS(fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    SAY(ready(fd));
    SAY(read(fd, &number, 8));
    struct itimerspec time = { { 0, 0 }, { 0, 20000000 } }, old;
    SAY(timerfd_settime(fd, 0, &time, NULL));
    SAY(timerfd_gettime(fd, &old));
    SAY(old.it_value.tv_sec == 0 && old.it_value.tv_nsec > 0);
    SAY(ready(fd));
    struct pollfd entry = { fd, POLLIN, 0 };
    SAY(poll(&entry, 1, 5000));
    SAY(read(fd, &number, 8));
    SAY(number);
    SAY(ready(fd));
    time.it_value.tv_nsec = 1;
    time.it_interval.tv_nsec = 10000000;
    SAY(timerfd_settime(fd, TFD_TIMER_ABSTIME, &time, &old));
    SAY(read(fd, &number, 8));
    SAY(number > 1);
    time.it_value.tv_nsec = 1000000000;
    SAY(timerfd_settime(fd, 0, &time, NULL));
    SAY(write(fd, &number, 8));
    close(fd);
}

static void polling(void)
{
    int ends[2], list, other;
    struct epoll_event event = { EPOLLIN, { .u64 = 77 } }, events[4];
    OPENS(list = epoll_create1(EPOLL_CLOEXEC));
    SAY(pipe2(ends, O_NONBLOCK));
    SAY(epoll_ctl(list, EPOLL_CTL_ADD, ends[0], &event));
    SAY(epoll_ctl(list, EPOLL_CTL_ADD, ends[0], &event));
    SAY(epoll_ctl(list, EPOLL_CTL_ADD, list, &event));
    SAY(epoll_ctl(list, EPOLL_CTL_MOD, ends[1], &event));
    SAY(epoll_ctl(list, EPOLL_CTL_DEL, ends[1], &event));
    SAY(epoll_ctl(list, EPOLL_CTL_ADD, 99, &event));
    SAY(epoll_ctl(ends[0], EPOLL_CTL_ADD, ends[1], &event));
    SAY(epoll_wait(list, events, 4, 0));
    SAY(epoll_wait(list, events, 0, 0));
    SAY(epoll_wait(list, events, 4, 20));
    SAY(write(ends[1], "x", 1));
    SAY(epoll_wait(list, events, 4, -1));
    SAY(events[0].events);
    SAY(events[0].data.u64);
    SAY(epoll_wait(list, events, 4, 0));
    event.events = EPOLLIN | EPOLLET;
    SAY(epoll_ctl(list, EPOLL_CTL_MOD, ends[0], &event));
    SAY(epoll_wait(list, events, 4, 0));
    SAY(epoll_wait(list, events, 4, 0));
    SAY(write(ends[1], "y", 1));
    SAY(epoll_wait(list, events, 4, 0));
    SAY(read(ends[0], text, 1));
    SAY(epoll_wait(list, events, 4, 0));
    event.events = EPOLLIN | EPOLLONESHOT;
    SAY(epoll_ctl(list, EPOLL_CTL_MOD, ends[0], &event));
    SAY(epoll_wait(list, events, 4, 0));
    SAY(epoll_wait(list, events, 4, 0));
    SAY(epoll_ctl(list, EPOLL_CTL_MOD, ends[0], &event));
    SAY(epoll_wait(list, events, 4, 0));
    event.events = EPOLLIN;
    SAY(epoll_ctl(list, EPOLL_CTL_MOD, ends[0], &event));
    OPENS(other = epoll_create1(0));
    SAY(epoll_ctl(other, EPOLL_CTL_ADD, list, &event));
    SAY(epoll_ctl(list, EPOLL_CTL_ADD, other, &event));
    SAY(epoll_wait(other, events, 4, 0));
    SAY(ready(other));
    SAY(read(ends[0], text, 10));
    SAY(epoll_wait(other, events, 4, 0));
    event.events = EPOLLOUT;
    SAY(epoll_ctl(list, EPOLL_CTL_ADD, ends[1], &event));
    SAY(epoll_wait(list, events, 4, 0));
    close(ends[1]);
    SAY(epoll_wait(list, events, 4, 0));
    SAY(events[0].events);
    close(ends[0]);
    SAY(epoll_wait(list, events, 4, 0));
    int file = open("motd", O_RDONLY);
    SAY(epoll_ctl(list, EPOLL_CTL_ADD, file, &event));
    struct pollfd entries[] = { { file, POLLIN | POLLOUT, 0 }, { -1, POLLIN, 0 }, { 999, POLLIN, 0 } };
    SAY(poll(entries, 3, -1));
    SAY(entries[0].revents);
    SAY(entries[1].revents);
    SAY(entries[2].revents);
    close(file);
    SAY(pipe(ends));
    fd_set read_set, write_set;
    FD_ZERO(&read_set);
    FD_ZERO(&write_set);
    FD_SET(ends[0], &read_set);
    FD_SET(ends[1], &write_set);
    struct timeval timeout = { 0, 0 };
    SAY(select(ends[1] + 1, &read_set, &write_set, NULL, &timeout));
    SAY(FD_ISSET(ends[0], &read_set) != 0);
    SAY(FD_ISSET(ends[1], &write_set) != 0);
    timeout.tv_usec = 10000;
    SAY(select(0, NULL, NULL, NULL, &timeout));
    close(ends[0]);
    close(ends[1]);
    close(list);
    close(other);
}

static void pair(int kind)
{
    int ends[2], count;
    struct stat s;
    SAY(socketpair(AF_UNIX, kind | SOCK_NONBLOCK, 0, ends));
    SAY(fstat(ends[0], &s));
    SAY(S_ISSOCK(s.st_mode));
    SAY(recv(ends[0], text, 10, 0));
    SAY(ready(ends[0]));
    SAY(send(ends[1], "one", 3, 0));
    SAY(write(ends[1], "two", 3));
    SAY(ready(ends[0]));
    SAY(ioctl(ends[0], FIONREAD, &count));
    SAY(count);
    SAY(recv(ends[0], text, 2, MSG_PEEK));
    SAY(recv(ends[0], text, 2, MSG_TRUNC));
    memset(text, 0, 10);
    SAY(read(ends[0], text, 10));
    printf("  %s\n", text);
    /* Files come along. */
    int fd = open("motd", O_RDONLY), got = -1;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec piece = { "f", 1 };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof control };
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    SAY(sendmsg(ends[1], &message, 0));
    close(fd);
    memset(&control, 0, sizeof control);
    piece.iov_base = text;
    piece.iov_len = 20;
    if (kind != SOCK_STREAM)
        SAY(recv(ends[0], text, 20, 0));
    SAY(recvmsg(ends[0], &message, MSG_CMSG_CLOEXEC));
    SAY(message.msg_controllen == sizeof control || message.msg_controllen == CMSG_LEN(4));
    if (message.msg_controllen)
        memcpy(&got, CMSG_DATA(&control.header), sizeof got);
    SAY(got >= 0 ? read(got, text, 4) : -2);
    SAY(got >= 0 ? fcntl(got, F_GETFD) : -2);
    if (got >= 0)
        close(got);
    SAY(sendmsg(ends[1], &(struct msghdr){ .msg_iov = (struct iovec[]){ { "a", 1 }, { "bc", 2 } },
                                           .msg_iovlen = 2 }, 0));
    SAY(recv(ends[0], text, 10, 0));
    SAY(shutdown(ends[1], SHUT_WR));
    SAY(ready(ends[0]));
    SAY(recv(ends[0], text, 10, 0));
    SAY(send(ends[1], "x", 1, MSG_NOSIGNAL));
    SAY(send(ends[0], "back", 4, 0));
    SAY(recv(ends[1], text, 10, 0));
    SAY(close(ends[1]));
    SAY(ready(ends[0]));
    SAY(recv(ends[0], text, 10, 0));
    SAY(send(ends[0], "x", 1, MSG_NOSIGNAL));
    close(ends[0]);
}

static void unix_sockets(void)
{
    struct sockaddr_un name = { AF_UNIX, "socket" }, other;
    socklen_t length = sizeof name;
    int server, client, accepted;
    OPENS(server = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    SAY(listen(server, 5));
    SAY(ready(server));
    SAY(bind(server, (void *)&name, sizeof name));
    SAY(bind(server, (void *)&name, sizeof name));
    SAY(accept(server, NULL, NULL));
    OPENS(client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    SAY(connect(client, (void *)&name, sizeof name));
    SAY(send(client, "x", 1, MSG_NOSIGNAL));
    SAY(recv(client, text, 1, 0));
    SAY(listen(server, 5));
    SAY(connect(client, (void *)&name, sizeof name));
    SAY(connect(client, (void *)&name, sizeof name));
    SAY(ready(server));
    SAY(ready(client));
    SAY(write(client, "early", 5));
    length = sizeof other;
    OPENS(accepted = accept4(server, (void *)&other, &length, SOCK_NONBLOCK));
    SAY(length);
    SAY(read(accepted, text, 10));
    length = sizeof other;
    SAY(getpeername(client, (void *)&other, &length));
    printf("  %u %s\n", length, other.sun_path);
    length = sizeof other;
    SAY(getsockname(accepted, (void *)&other, &length));
    SAY(length);
    SAY(write(accepted, "unread", 6));
    close(client);
    SAY(ready(accepted));
    SAY(read(accepted, text, 10));
    SAY(read(accepted, text, 10));
    close(accepted);
    close(server);
    OPENS(client = socket(AF_UNIX, SOCK_STREAM, 0));
    SAY(connect(client, (void *)&name, sizeof name));
    strcpy(name.sun_path, "motd");
    SAY(connect(client, (void *)&name, sizeof name));
    strcpy(name.sun_path, "nowhere");
    SAY(connect(client, (void *)&name, sizeof name));
    close(client);
    SAY(unlink("socket"));
    memcpy(name.sun_path, "\0abstract", 9);
    OPENS(server = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
    SAY(bind(server, (void *)&name, 2 + 9));
    OPENS(client = socket(AF_UNIX, SOCK_DGRAM, 0));
    SAY(send(client, "x", 1, 0));
    SAY(sendto(client, "message", 7, 0, (void *)&name, 2 + 9));
    SAY(sendto(client, "", 0, 0, (void *)&name, 2 + 9));
    length = sizeof other;
    SAY(recvfrom(server, text, 3, MSG_TRUNC, (void *)&other, &length));
    SAY(length);
    SAY(recv(server, text, 3, 0));
    SAY(recv(server, text, 3, 0));
    SAY(connect(client, (void *)&name, 2 + 9));
    SAY(write(client, "again", 5));
    SAY(read(server, text, 10));
    close(server);
    SAY(write(client, "x", 1));
    close(client);
    int value = 0;
    OPENS(client = socket(AF_UNIX, SOCK_SEQPACKET, 0));
    length = sizeof value;
    SAY(getsockopt(client, SOL_SOCKET, SO_TYPE, &value, &length));
    SAY(value);
    SAY(getsockopt(client, IPPROTO_TCP, TCP_NODELAY, &value, &length));
    SAY(setsockopt(client, SOL_SOCKET, SO_KEEPALIVE, &value, 1));
    close(client);
    SAY(socket(AF_UNIX, 77, 0));
    SAY(socket(AF_UNIX, SOCK_STREAM, 7));
    SAY(socket(77, SOCK_STREAM, 0));
    SAY(listen(1, 5));
}

static void network(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct sockaddr_in other;
    socklen_t length = sizeof address;
    int server, client, accepted, value = 1;
    OPENS(server = socket(AF_INET, SOCK_STREAM, 0));
    SAY(setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &value, sizeof value));
    SAY(bind(server, (void *)&address, sizeof address));
    SAY(listen(server, 128));
    SAY(getsockname(server, (void *)&address, &length));
    SAY(length);
    SAY(address.sin_port != 0);
    OPENS(client = socket(AF_INET, SOCK_STREAM, 0));
    SAY(bind(client, (void *)&address, sizeof address));
    SAY(connect(client, (void *)&address, sizeof address));
    length = sizeof other;
    OPENS(accepted = accept(server, (void *)&other, &length));
    printf("  %u %s\n", length, inet_ntoa(other.sin_addr));
    SAY(setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value));
    value = 0;
    length = sizeof value;
    SAY(getsockopt(client, IPPROTO_TCP, TCP_NODELAY, &value, &length));
    SAY(value != 0);
    SAY(write(client, "request", 7));
    SAY(read(accepted, text, 100));
    SAY(send(accepted, "answer", 6, 0));
    SAY(recv(client, text, 3, MSG_WAITALL));
    SAY(recv(client, text, 3, 0));
    SAY(shutdown(client, SHUT_WR));
    SAY(read(accepted, text, 100));
    SAY(write(accepted, "late", 4));
    SAY(read(client, text, 100));
    SAY(getsockopt(client, SOL_SOCKET, SO_ERROR, &value, &length));
    SAY(value);
    close(accepted);
    close(client);
    close(server);
    OPENS(client = socket(AF_INET, SOCK_STREAM, 0));
    SAY(connect(client, (void *)&address, sizeof address));
    close(client);
    OPENS(server = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
    address.sin_port = 0;
    SAY(bind(server, (void *)&address, sizeof address));
    length = sizeof address;
    SAY(getsockname(server, (void *)&address, &length));
    OPENS(client = socket(AF_INET, SOCK_DGRAM, 0));
    SAY(sendto(client, "datagram", 8, 0, (void *)&address, sizeof address));
    length = sizeof other;
    SAY(recvfrom(server, text, 100, 0, (void *)&other, &length));
    printf("  %u %s\n", length, inet_ntoa(other.sin_addr));
    SAY(sendto(server, "back", 4, 0, (void *)&other, sizeof other));
    SAY(connect(client, (void *)&address, sizeof address));
    SAY(recv(client, text, 100, 0));
    SAY(recv(server, text, 100, 0));
    SAY(send(client, "x", 1, 0));
    SAY(recv(server, text, 100, 0));
    close(client);
    close(server);
}

static void others(void)
{
    int fd, other;
    OPENS(fd = memfd_create("name", MFD_CLOEXEC));
    SAY(write(fd, "memory", 6));
    SAY(lseek(fd, 0, SEEK_CUR));
    SAY(ftruncate(fd, 3));
    SAY(pread(fd, text, 10, 0));
    char link[64] = "", path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SAY(readlink(path, link, 63));
    printf("  %s\n", link);
    OPENS(other = open(path, O_RDONLY));
    SAY(read(other, text, 10));
    close(other);
    close(fd);
    OPENS(fd = open("motd", O_RDONLY));
    OPENS(other = open("motd", O_RDONLY));
    SAY(flock(fd, LOCK_SH));
    SAY(flock(other, LOCK_SH | LOCK_NB));
    SAY(flock(other, LOCK_EX | LOCK_NB));
    SAY(flock(fd, LOCK_UN));
    SAY(flock(other, LOCK_EX | LOCK_NB));
    SAY(flock(fd, LOCK_SH | LOCK_NB));
    close(other);
    SAY(flock(fd, LOCK_EX | LOCK_NB));
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    SAY(fcntl(fd, F_GETLK, &lock));
    SAY(lock.l_type == F_UNLCK);
    close(fd);
}

int main(void)
{
    pipes();
    counters();
    polling();
    pair(SOCK_STREAM);
    pair(SOCK_SEQPACKET);
    pair(SOCK_DGRAM);
    unix_sockets();
    network();
    others();
    return 0;
}
