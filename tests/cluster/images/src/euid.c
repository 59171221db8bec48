/* Prints the effective user it runs as; installed setuid root to show whether privileges can be gained. */
#include <stdio.h>
#include <unistd.h>

int main(void) { return printf("Effective uid: %d\n", (int)geteuid()) < 0; }
