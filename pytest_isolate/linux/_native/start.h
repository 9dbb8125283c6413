#ifndef ISOLATE_START_H
#define ISOLATE_START_H

/* Starts a program that is no child of pytest's; see start.c. Never returns. */
_Noreturn void start_main(int argc, char **argv);

#endif
