/* Holds a pod's namespaces open: sleeps, reaps orphans as PID 1, ends on SIGTERM and SIGINT. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal) { (void)signal; _exit(0); }
static void reap(int signal) { (void)signal; while (waitpid(-1, 0, WNOHANG) > 0); }

int main(void) {
    signal(SIGTERM, end), signal(SIGINT, end), signal(SIGCHLD, reap);
    for (;;) pause();
}
