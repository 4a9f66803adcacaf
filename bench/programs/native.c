/* What `./x bench native` runs, unmodified, in a native container and on Linux.
 *
 *   native calls DIRECTORY   one line `call=INSTRUCTIONS` for each kind of call
 *   native main              one line `main=TICKS`: what the counter shows when main begins
 *   as /init of Linux         mounts what a container engine needs, runs the calls, then starts a
 *                            container with crun a few times, and powers the machine off
 *
 * Under -icount the counter advances once in 16 instructions. Each kind of call is made in batches;
 * the cheapest batch counts, which no timer interrupt has come into. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define INSTRUCTIONS 16
#define BATCHES 7

/* linux/futex.h, which musl does not have */
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define FUTEX_PRIVATE_FLAG 128

static int is_init;

static unsigned long ticks(void)
{
    unsigned long ticks;
    __asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(ticks)::"memory");
    return ticks;
}

static void fail(const char *what)
{
    printf("failed: %s: %s\n", what, strerror(errno));
    fflush(stdout);
    if (is_init)
        reboot(RB_POWER_OFF);
    exit(1);
}

#define COST(name, times, call) \
    do { \
        unsigned long least = -1; \
        for (int batch = 0; batch < BATCHES; batch++) { \
            unsigned long start = ticks(); \
            for (int i = 0; i < times; i++) \
                call; \
            unsigned long took = ticks() - start; \
            least = took < least ? took : least; \
        } \
        printf("%s=%lu\n", name, least * INSTRUCTIONS / times); \
    } while (0)

static long futex(int *word, int operation, int value)
{
    return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static void map_and_touch(size_t size)
{
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    for (size_t at = 0; at < size; at += 4096)
        memory[at] = 1;
    if (munmap(memory, size))
        fail("munmap");
}

static void *nothing(void *of)
{
    return of;
}

static void thread(void)
{
    pthread_t thread;
    errno = pthread_create(&thread, NULL, nothing, NULL);
    if (errno || (errno = pthread_join(thread, NULL)))
        fail("thread");
}

/* The word says whose turn it is. */
static int turn;

static void hand_over(int from, int to)
{
    while (__atomic_load_n(&turn, __ATOMIC_SEQ_CST) != from)
        futex(&turn, FUTEX_WAIT, to);
    __atomic_store_n(&turn, to, __ATOMIC_SEQ_CST);
    futex(&turn, FUTEX_WAKE, 1);
}

#define ROUNDS 200

static void *partner(void *unused)
{
    for (int i = 0; i < ROUNDS * BATCHES; i++)
        hand_over(1, 0);
    return unused;
}

static void calls(const char *directory)
{
    static char page[4096];
    struct timespec time;
    char path[256];
    int word = 0;
    pthread_t other;

    snprintf(path, sizeof path, "%s/page", directory);
    int fd = open(path, O_RDONLY);
    if (fd < 0 || pread(fd, page, sizeof page, 0) != sizeof page)
        fail(path);
    COST("getppid", 1000, getppid());
    COST("clock_gettime", 1000, clock_gettime(CLOCK_MONOTONIC, &time));
    COST("pread", 1000, pread(fd, page, sizeof page, 0));
    COST("mmap", 100, map_and_touch(4096));
    COST("mmap_large", 10, map_and_touch(256 << 10));
    COST("thread", 20, thread());
    COST("futex", 1000, futex(&word, FUTEX_WAKE, 1));
    errno = pthread_create(&other, NULL, partner, NULL);
    if (errno)
        fail("thread");
    COST("futex_contended", ROUNDS, hand_over(0, 1));
    pthread_join(other, NULL);
}

/* Runs a program, and waits for its end. */
static void run(char *const words[])
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        execv(words[0], words);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status)
        fail(words[0]);
}

static void say_file(const char *path)
{
    char text[256];
    int fd = open(path, O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (length < 0)
        fail(path);
    text[length] = 0;
    printf("%s=%s", path, text);
    close(fd);
}

static void linux_init(void)
{
    is_init = 1;
    static const char *const places[][3] = {
        {"proc", "/proc", "proc"},   {"sysfs", "/sys", "sysfs"},
        {"devtmpfs", "/dev", "devtmpfs"}, {"cgroup2", "/sys/fs/cgroup", "cgroup2"},
        {"tmpfs", "/run", "tmpfs"},  {"tmpfs", "/tmp", "tmpfs"},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        mkdir(places[i][1], 0755);
        if (mount(places[i][0], places[i][1], places[i][2], 0, NULL))
            fail(places[i][1]);
    }
    int console = open("/dev/console", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        dup2(console, fd);
    say_file("/proc/version");
    say_file("/proc/cmdline");
    say_file("/sys/devices/system/cpu/vulnerabilities/meltdown");
    say_file("/sys/devices/system/cpu/vulnerabilities/spectre_v2");
    calls("/bundle/rootfs");
    char *const words[] = {"/crun", "run", "--no-pivot", "--bundle", "/bundle", "one", NULL};
    for (int i = 0; i < 4; i++) {
        printf("asked=%lu\n", ticks());
        fflush(stdout);
        run(words);
    }
    printf("good\n");
    fflush(stdout);
    reboot(RB_POWER_OFF);
}

int main(int argc, char **argv)
{
    unsigned long now = ticks();
    if (!strcmp(argv[0], "/init"))
        linux_init();
    else if (argc == 2 && !strcmp(argv[1], "main"))
        printf("main=%lu\n", now);
    else if (argc == 3 && !strcmp(argv[1], "calls"))
        calls(argv[2]);
    else
        return 2;
    return 0;
}
