/* Signals: handlers and their frames, masks, alternate stacks, interrupted calls, timers, faults,
 * and cancelled threads; says what came of each. tests/linux.rs runs it under Linux and in a
 * container. */
#define _GNU_SOURCE
#include "say.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

static volatile sig_atomic_t count, last, code, own, value, depth, deepest;
static volatile unsigned long where;
static sigset_t none;

static void plain(int signal)
{
    count++;
    last = signal;
}

static void told(int signal, siginfo_t *info, void *context)
{
    (void)context;
    plain(signal);
    code = info->si_code;
    own = info->si_pid == getpid();
    value = info->si_value.sival_int;
}

static void handle(int signal, void *handler, int flags)
{
    struct sigaction action = { 0 };
    action.sa_flags = flags;
    if (flags & SA_SIGINFO)
        action.sa_sigaction = (void (*)(int, siginfo_t *, void *))handler;
    else
        action.sa_handler = (void (*)(int))handler;
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, NULL);
}

static sigset_t set_of(int signal)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    return set;
}

static void nested(int signal)
{
    depth++;
    if (depth > deepest)
        deepest = depth;
    if (count++ < 2)
        raise(signal);
    depth--;
}

static void *kill_later(void *target)
{
    usleep(20000);
    pthread_kill(*(pthread_t *)target, SIGUSR1);
    return NULL;
}

static pthread_t later(void)
{
    static pthread_t target;
    pthread_t thread;
    target = pthread_self();
    pthread_create(&thread, NULL, kill_later, &target);
    return thread;
}

static void sending(void)
{
    handle(SIGUSR1, plain, 0);
    SAY(raise(SIGUSR1));
    SAY(count * 100 + last);
    handle(SIGUSR1, told, SA_SIGINFO);
    SAY(kill(getpid(), SIGUSR1));
    SAY(code);
    SAY(own);
    SAY(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1));
    SAY(code);
    SAY(syscall(SYS_tkill, syscall(SYS_gettid), SIGUSR1));
    SAY(count);
    union sigval data = { .sival_int = 4711 };
    SAY(sigqueue(getpid(), SIGUSR1, data));
    SAY(code);
    SAY(value);
    SAY(kill(getpid(), 0));
    SAY(kill(getpid(), 65));
    SAY(syscall(SYS_tgkill, getpid(), 4194304, SIGUSR1));
    SAY(syscall(SYS_tgkill, getpid(), 0, SIGUSR1));
    signal(SIGUSR1, SIG_IGN);
    SAY(raise(SIGUSR1));
    signal(SIGCHLD, SIG_DFL);
    SAY(raise(SIGCHLD));
    SAY(raise(SIGWINCH));
    SAY(count);
    count = 0;
    handle(SIGUSR1, nested, SA_NODEFER);
    SAY(raise(SIGUSR1));
    SAY(deepest);
    deepest = count = 0;
    handle(SIGUSR1, nested, 0);
    SAY(raise(SIGUSR1));
    SAY(deepest);
    handle(SIGUSR1, plain, SA_RESETHAND);
    SAY(raise(SIGUSR1));
    struct sigaction action;
    SAY(sigaction(SIGUSR1, NULL, &action));
    SAY(action.sa_handler == SIG_DFL);
    SAY(sigaction(SIGKILL, &action, NULL));
}

static void masks(void)
{
    sigset_t set = set_of(SIGUSR1), old, pending;
    siginfo_t info;
    handle(SIGUSR1, told, SA_SIGINFO);
    count = 0;
    SAY(sigprocmask(SIG_BLOCK, &set, NULL));
    SAY(raise(SIGUSR1));
    SAY(raise(SIGUSR1));
    SAY(count);
    SAY(sigpending(&pending));
    SAY(sigismember(&pending, SIGUSR1));
    SAY(sigprocmask(SIG_UNBLOCK, &set, &old));
    SAY(sigismember(&old, SIGUSR1));
    SAY(count);
    SAY(sigprocmask(7, &set, NULL));
    /* Those in real time queue up. */
    int queued = SIGRTMIN + 1;
    sigset_t real = set_of(queued);
    handle(queued, told, SA_SIGINFO);
    SAY(sigprocmask(SIG_BLOCK, &real, NULL));
    count = 0;
    for (int index = 0; index < 3; index++)
        sigqueue(getpid(), queued, (union sigval){ .sival_int = index });
    SAY(sigprocmask(SIG_UNBLOCK, &real, NULL));
    SAY(count);
    SAY(value);
    /* Waited for, they need no handler. */
    SAY(sigprocmask(SIG_BLOCK, &set, NULL));
    SAY(raise(SIGUSR1));
    struct timespec moment = { 0, 1000000 };
    SAY(sigtimedwait(&set, &info, &moment) == SIGUSR1);
    SAY(info.si_code == SI_TKILL);
    SAY(sigtimedwait(&set, &info, &moment));
    pthread_t thread = later();
    SAY(sigwaitinfo(&set, NULL) == SIGUSR1);
    SAY(pthread_join(thread, NULL));
    /* Let through while a call waits. */
    count = 0;
    thread = later();
    SAY(sigsuspend(&none));
    SAY(count);
    SAY(pthread_join(thread, NULL));
    SAY(raise(SIGUSR1));
    SAY(ppoll(NULL, 0, NULL, &none));
    SAY(count);
    SAY(raise(SIGUSR1));
    SAY(pselect(0, NULL, NULL, NULL, NULL, &none));
    int list = epoll_create1(0);
    struct epoll_event event;
    SAY(raise(SIGUSR1));
    SAY(epoll_pwait(list, &event, 1, -1, &none));
    SAY(count);
    close(list);
    SAY(sigprocmask(SIG_SETMASK, NULL, &old));
    SAY(sigismember(&old, SIGUSR1));
    SAY(sigprocmask(SIG_SETMASK, &none, NULL));
}

static char alternate[65536];

static void on_stack(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    ucontext_t *saved = context;
    char here;
    stack_t stack;
    sigaltstack(NULL, &stack);
    printf("on the alternate stack: %d, flags %d, in the frame %d and %d\n",
           &here >= alternate && &here < alternate + sizeof alternate, stack.ss_flags,
           saved->uc_stack.ss_sp == alternate, (int)saved->uc_stack.ss_size);
    printf("aligned: %d\n", ((unsigned long)info | (unsigned long)context) % 16 == 0);
    stack.ss_flags = 0;
    SAY(sigaltstack(&stack, NULL));
}

static void stacks(void)
{
    stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate }, old;
    SAY(sigaltstack(NULL, &old));
    SAY(old.ss_flags);
    stack.ss_size = 1000;
    SAY(sigaltstack(&stack, NULL));
    stack.ss_size = sizeof alternate;
    stack.ss_flags = 77;
    SAY(sigaltstack(&stack, NULL));
    stack.ss_flags = 0;
    SAY(sigaltstack(&stack, NULL));
    handle(SIGUSR2, on_stack, SA_SIGINFO | SA_ONSTACK);
    SAY(raise(SIGUSR2));
    SAY(sigaltstack(NULL, &old));
    SAY(old.ss_sp == alternate);
}

static void *write_later(void *fd)
{
    usleep(60000);
    return (void *)write(*(int *)fd, "x", 1);
}

/* What a signal does to a call that waits. */
static void interrupted(int flags)
{
    int ends[2];
    char byte;
    pthread_t thread, writer;
    printf("interrupted, flags %#x\n", flags);
    handle(SIGUSR1, plain, flags);
    pipe(ends);
    count = 0;
    thread = later();
    pthread_create(&writer, NULL, write_later, &ends[1]);
    SAY(read(ends[0], &byte, 1));
    pthread_join(thread, NULL);
    pthread_join(writer, NULL);
    SAY(count);
    struct timespec time = { 10, 0 }, rest = { 0, 0 };
    thread = later();
    SAY(nanosleep(&time, &rest));
    SAY(rest.tv_sec);
    pthread_join(thread, NULL);
    struct pollfd entry = { ends[1], 0, 0 };
    thread = later();
    SAY(poll(&entry, 1, 10000));
    pthread_join(thread, NULL);
    int word = 1;
    thread = later();
    SAY(syscall(SYS_futex, &word, 0, 1, &time, NULL, 0));
    pthread_join(thread, NULL);
    /* Some is written already. */
    static char much[100000];
    thread = later();
    if (flags == 0)
        SAY(write(ends[1], much, sizeof much) > 60000);
    pthread_join(thread, NULL);
    close(ends[0]);
    close(ends[1]);
    /* One that is ignored interrupts nothing. */
    signal(SIGUSR1, SIG_IGN);
    time = (struct timespec){ 0, 50000000 };
    thread = later();
    SAY(nanosleep(&time, NULL));
    pthread_join(thread, NULL);
}

static void broken(void)
{
    int ends[2];
    handle(SIGPIPE, plain, 0);
    pipe(ends);
    close(ends[0]);
    last = count = 0;
    SAY(write(ends[1], "x", 1));
    SAY(last * 100 + count);
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    close(ends[0]);
    SAY(send(ends[1], "x", 1, MSG_NOSIGNAL));
    SAY(count);
    SAY(send(ends[1], "x", 1, 0));
    SAY(count);
}

/* A thread that makes no call is interrupted, too, and finds all its registers again. */
static void *spin(void *stop)
{
    volatile int *stopped = stop;
    double sums[8] = { 0 };
    unsigned long number = 1, steps = 0;
    while (!*stopped) {
        number = number * 6364136223846793005 + 1442695040888963407;
        for (int index = 0; index < 8; index++)
            sums[index] += 0.5;
        steps++;
    }
    for (int index = 0; index < 8; index++)
        if (sums[index] != 0.5 * steps)
            return "a vector register was changed";
    unsigned long again = 1;
    while (steps--)
        again = again * 6364136223846793005 + 1442695040888963407;
    return again == number ? "none" : "a register was changed";
}

static void *spin_on_calls(void *stop)
{
    volatile int *stopped = stop;
    long wrong = 0;
    while (!*stopped)
        wrong += getpid() != syscall(SYS_getpid) || getppid() == -2;
    return wrong ? "a call came out wrong" : "none";
}

static void interrupt_running(void *(*body)(void *), const char *name)
{
    volatile int stop = 0;
    pthread_t thread;
    handle(SIGUSR1, plain, SA_RESTART);
    count = 0;
    pthread_create(&thread, NULL, body, (void *)&stop);
    for (int round = 0; round < 200; round++) {
        int before = count;
        pthread_kill(thread, SIGUSR1);
        for (int wait = 0; count == before && wait < 2000; wait++)
            usleep(1000);
    }
    stop = 1;
    void *said;
    pthread_join(thread, &said);
    printf("%s: %d signals, mistakes: %s\n", name, count, (char *)said);
}

static void timers(void)
{
    struct itimerval every = { { 0, 5000 }, { 0, 5000 } }, left;
    handle(SIGALRM, told, SA_SIGINFO);
    count = 0;
    SAY(setitimer(ITIMER_REAL, &every, NULL));
    while (count < 5)
        ;
    SAY(code == SI_KERNEL);
    SAY(getitimer(ITIMER_REAL, &left));
    SAY(left.it_interval.tv_usec);
    every.it_value.tv_usec = 1000000;
    SAY(setitimer(ITIMER_REAL, &every, NULL));
    every = (struct itimerval){ { 0, 0 }, { 0, 0 } };
    SAY(setitimer(ITIMER_REAL, &every, NULL));
    SAY(alarm(100));
    SAY(alarm(0) > 90);
    count = 0;
    every.it_value.tv_usec = 2000;
    SAY(setitimer(ITIMER_REAL, &every, NULL));
    SAY(pause());
    SAY(count);

    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 };
    struct itimerspec once = { { 0, 0 }, { 0, 2000000 } }, rest;
    timer_t timer;
    event.sigev_value.sival_int = 99;
    handle(SIGUSR2, told, SA_SIGINFO);
    SAY(timer_create(CLOCK_MONOTONIC, &event, &timer));
    SAY(timer_gettime(timer, &rest));
    SAY(rest.it_value.tv_nsec);
    count = 0;
    SAY(timer_settime(timer, 0, &once, NULL));
    while (count == 0)
        ;
    SAY(code == SI_TIMER);
    SAY(value);
    SAY(timer_getoverrun(timer));
    sigset_t set = set_of(SIGUSR2);
    once.it_interval.tv_nsec = 1000000;
    SAY(sigprocmask(SIG_BLOCK, &set, NULL));
    SAY(timer_settime(timer, 0, &once, NULL));
    usleep(20000);
    count = 0;
    once.it_interval.tv_nsec = 0;
    SAY(sigprocmask(SIG_UNBLOCK, &set, NULL));
    SAY(timer_getoverrun(timer) >= 0);
    SAY(count > 0);
    SAY(timer_delete(timer));
    SAY(timer_create(77, &event, &timer));
}

static sigjmp_buf back;
static char *page;
static volatile int seen;

static void repair(int signal, siginfo_t *info, void *context)
{
    ucontext_t *saved = context;
    where = (char *)info->si_addr - page;
    code = info->si_code;
    last = signal;
    count++;
    seen = (char *)saved->uc_mcontext.fault_address - page;
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static void skip(int signal, siginfo_t *info, void *context)
{
    (void)info;
    last = signal;
    code = info->si_code;
    ((ucontext_t *)context)->uc_mcontext.pc += 4;
}

static void jump(int signal, siginfo_t *info, void *context)
{
    (void)context;
    last = signal;
    code = info->si_code;
    where = (unsigned long)info->si_addr;
    siglongjmp(back, 1);
}

static volatile int endless = 1;
static volatile int *volatile nowhere = (int *)64;

static int overflow(volatile char *above)
{
    volatile char frame[1024];
    frame[0] = above[0];
    return endless ? overflow(frame) + frame[1023] : 0;
}

static void faults(void)
{
    page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    handle(SIGSEGV, repair, SA_SIGINFO);
    count = 0;
    page[123] = 7;
    SAY(page[123]);
    SAY(count * 100 + last);
    SAY(code == SEGV_ACCERR);
    SAY(where);
    SAY(seen);
    mprotect(page, 4096, PROT_NONE);
    double half = 0.5;
    register double kept __asm__("d9") = half;
    __asm__ volatile("" : "+w"(kept));
    SAY(page[123]);
    __asm__ volatile("" : "+w"(kept));
    SAY(kept == half);
    SAY(code == SEGV_ACCERR);
    handle(SIGSEGV, jump, SA_SIGINFO);
    if (sigsetjmp(back, 1) == 0)
        *nowhere = 1;
    SAY(last);
    SAY(code == SEGV_MAPERR);
    SAY(where);
    if (sigsetjmp(back, 1) == 0)
        ((void (*)(void))0x7000)();
    SAY(where);
    handle(SIGILL, skip, SA_SIGINFO);
    handle(SIGTRAP, skip, SA_SIGINFO);
    __asm__ volatile("udf #0");
    SAY(last);
    __asm__ volatile("brk #1");
    SAY(last);
    SAY(code == TRAP_BRKPT);
    handle(SIGSEGV, jump, SA_SIGINFO | SA_ONSTACK);
    last = 0;
    char first = 1;
    if (sigsetjmp(back, 1) == 0)
        overflow(&first);
    SAY(last);
    /* The kernel does not fault. */
    char *bad = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(bad + 4096, 4096);
    mprotect(bad, 4096, PROT_READ);
    last = 0;
    int ends[2];
    SAY(pipe((int *)bad));
    SAY(pipe(ends));
    SAY(write(ends[1], bad + 4096, 10));
    SAY(write(ends[1], bad, 10));
    SAY(read(ends[0], bad, 10));
    SAY(open(bad + 4096, O_RDONLY));
    SAY(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, bad + 4096));
    SAY(syscall(SYS_getcwd, bad + 4096, 100));
    SAY(last);
}

static volatile int cleaned;

static void clean(void *argument)
{
    (void)argument;
    cleaned++;
}

static void *blocked(void *fd)
{
    char byte;
    pthread_cleanup_push(clean, NULL);
    read(*(int *)fd, &byte, 1);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *sleeps(void *argument)
{
    pthread_cleanup_push(clean, NULL);
    for (;;)
        sleep(100);
    pthread_cleanup_pop(0);
    return argument;
}

static void *busy(void *argument)
{
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    pthread_cleanup_push(clean, NULL);
    for (;;)
        __asm__ volatile("");
    pthread_cleanup_pop(0);
    return argument;
}

static void cancelled(void)
{
    int ends[2];
    pipe(ends);
    void *(*bodies[])(void *) = { blocked, sleeps, busy };
    for (int index = 0; index < 3; index++) {
        pthread_t thread;
        void *gave = NULL;
        cleaned = 0;
        pthread_create(&thread, NULL, bodies[index], ends);
        usleep(20000);
        SAY(pthread_cancel(thread));
        SAY(pthread_join(thread, &gave));
        SAY(gave == PTHREAD_CANCELED);
        SAY(cleaned);
    }
}

int main(int argc, char **argv)
{
    sigemptyset(&none);
    if (argc > 1) {
        /* How it ends by a signal. */
        handle(SIGUSR1, plain, 0);
        raise(SIGUSR1);
        int number = atoi(argv[1]);
        if (number == SIGABRT)
            abort();
        if (number == SIGSEGV)
            *nowhere = 1;
        raise(number);
        return 1;
    }
    sending();
    masks();
    stacks();
    interrupted(0);
    interrupted(SA_RESTART);
    broken();
    timers();
    interrupt_running(spin, "registers");
    interrupt_running(spin_on_calls, "calls");
    faults();
    cancelled();
    return 0;
}
