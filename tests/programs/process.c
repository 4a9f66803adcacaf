/* The process: its words, time, random numbers, output, its end. */
#define _GNU_SOURCE
#include "check.h"
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>

extern char **environ;
int main(int, char **);

static void words(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        printf("argument %s\n", argv[i]);
    for (char **variable = environ; *variable; variable++)
        printf("variable %s\n", *variable);
    CHECK(getauxval(AT_PAGESZ) == 4096 && getauxval(AT_SECURE) == 0);
    CHECK(getauxval(AT_PHENT) == sizeof(Elf64_Phdr) && getauxval(AT_PHNUM) > 2);
    Elf64_Phdr *headers = (Elf64_Phdr *)getauxval(AT_PHDR);
    int loads = 0;
    for (unsigned i = 0; i < getauxval(AT_PHNUM); i++)
        loads += headers[i].p_type == PT_LOAD;
    CHECK(loads >= 2);
    CHECK(!strcmp((char *)getauxval(AT_EXECFN), argv[0]));
    CHECK(getauxval(AT_HWCAP) == 3);
    struct utsname name;
    CHECK(uname(&name) == 0 && !strcmp(name.sysname, "Linux") && !strcmp(name.machine, "aarch64"));
    CHECK(getpid() == 1 && getppid() == 0 && getuid() == 0 && geteuid() == 0 && getgid() == 0);
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 1024);
    CHECK(sysconf(_SC_NPROCESSORS_ONLN) == 1);
}

static double seconds(clockid_t clock)
{
    struct timespec time;
    CHECK(clock_gettime(clock, &time) == 0 && time.tv_nsec >= 0 && time.tv_nsec < 1000000000);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void times(void)
{
    double before = seconds(CLOCK_MONOTONIC);
    CHECK(usleep(20000) == 0);
    double after = seconds(CLOCK_MONOTONIC);
    CHECK(after - before >= 0.02 && after - before < 10);
    CHECK(seconds(CLOCK_REALTIME) > 1.6e9);
    struct timespec time;
    CHECK(clock_getres(CLOCK_MONOTONIC, &time) == 0 && time.tv_sec == 0 && time.tv_nsec == 16);
    FAILS(EINVAL, syscall(SYS_clock_gettime, 99, &time));
    FAILS(EINVAL, clock_gettime(99, &time));
    CHECK(getauxval(AT_SYSINFO_EHDR) != 0);
    // Of the functions that AT_SYSINFO_EHDR leads to, and of calls.
    const clockid_t clocks[] = { 0, 1, 4, 5, 6, 7, 11 };
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        double first = seconds(clocks[i]);
        CHECK(syscall(SYS_clock_gettime, clocks[i], &time) == 0);
        double second = (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
        double third = seconds(clocks[i]);
        CHECK(first <= second && second <= third && third < first + 1);
    }
    time.tv_nsec = 1000000000;
    FAILS(EINVAL, nanosleep(&time, NULL));
}

static void randomness(void)
{
    unsigned char bytes[256], counts[256] = { 0 };
    CHECK(getrandom(bytes, 256, 0) == 256);
    int different = 0;
    for (int i = 0; i < 256; i++)
        different += !counts[bytes[i]]++;
    CHECK(different > 100);
    unsigned long *start = (unsigned long *)getauxval(AT_RANDOM);
    CHECK(start[0] && start[1] && memcmp(start, bytes, 16));
    unsigned long number;
    memcpy(&number, bytes, sizeof number);
    printf("random %lx\n", number);
}

static void output(void)
{
    static char text[5000];
    memset(text, 'x', sizeof text);
    text[4999] = '\n';
    fflush(stdout);
    CHECK(write(2, text, 5000) == 5000);
    struct iovec pieces[] = { { "one ", 4 }, { "", 0 }, { text, 1000 }, { " two\n", 5 } };
    CHECK(writev(2, pieces, 4) == 1009);
    CHECK(write(1, "", 0) == 0);
    FAILS(EBADF, write(77, "x", 1));
    FAILS(EBADF, write(0, "x", 1));
    FAILS(EFAULT, write(1, NULL, 1));
    FAILS(EINVAL, writev(1, pieces, 2000));
    FAILS(ESPIPE, lseek(1, 0, SEEK_CUR));
}

static void unknown(void)
{
    FAILS(ENOSYS, syscall(SYS_clone, 0, 0, 0, 0, 0));
    FAILS(ENOSYS, syscall(SYS_clone, 0, 0, 0, 0, 0));
    FAILS(ENOSYS, syscall(4000));
}

static void signals(void)
{
    struct sigaction action = { .sa_handler = SIG_IGN }, before;
    CHECK(sigaction(SIGTERM, &action, &before) == 0 && before.sa_handler == SIG_DFL);
    CHECK(raise(SIGTERM) == 0 && kill(getpid(), SIGCHLD) == 0);
    FAILS(ESRCH, kill(4242, SIGTERM));
    FAILS(EINVAL, sigaction(SIGKILL, &action, NULL));
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "abort"))
        abort();
    if (argc > 1 && !strcmp(argv[1], "exit"))
        _exit(atoi(argv[2]));
    if (argc > 1 && !strcmp(argv[1], "sleep"))
        return sleep(2);
    words(argc, argv);
    times();
    randomness();
    output();
    unknown();
    signals();
    return report();
}
