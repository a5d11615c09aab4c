#include "arguments.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char USAGE[] =
    "usage: generate SAVED_MODEL [--out=images.ppm] [--seed=0] [--steps=20]\n"
    "                [--sampler=ddim] [--labels=0,1,2 | --count=1]\n"
    "                [--guidance=1.0]\n";

static bool refuse(const char *name, const char *wanted, const char *value) {
  fprintf(stderr, "generate: --%s takes %s. Received: --%s=%s\n", name, wanted,
          name, value);
  return false;
}

/* A whole number that ends where the text or, by a comma, an item does. */
static bool read_integer(const char *text, char **end, int64_t least,
                         int64_t most, int64_t *number) {
  errno = 0;
  long long value = strtoll(text, end, 10);
  if (*end == text || errno == ERANGE || value < least || value > most) {
    return false;
  }
  *number = value;
  return true;
}

static bool read_number_of(const char *name, const char *text, int64_t least,
                           int64_t most, int64_t *number) {
  char *end;
  if (read_integer(text, &end, least, most, number) && *end == '\0') {
    return true;
  }
  char wanted[80];
  snprintf(wanted, sizeof wanted, "a whole number from %lld to %lld",
           (long long)least, (long long)most);
  return refuse(name, wanted, text);
}

static bool read_labels(const char *text, Arguments *arguments) {
  const char *next = text;
  int32_t count = 0;
  for (;;) {
    char *end;
    int64_t label;
    if (count == MOST_IMAGES ||
        !read_integer(next, &end, 0, INT32_MAX, &label) ||
        (*end != ',' && *end != '\0')) {
      return refuse("labels", "up to 256 numbers of classes such as 0,1,2",
                    text);
    }
    arguments->labels[count++] = (int32_t)label;
    if (*end == '\0') break;
    next = end + 1;
  }
  arguments->num_images = count;
  arguments->has_labels = true;
  return true;
}

static bool read_guidance(const char *text, Arguments *arguments) {
  char *end;
  double value = strtod(text, &end);
  if (end == text || *end != '\0' || !isfinite((float)value) || value < 0) {
    return refuse("guidance", "a number from 0, 1 for none", text);
  }
  arguments->guidance_scale = (float)value;
  arguments->has_guidance = true;
  return true;
}

/* The value if `argument` is --name=value, else NULL. */
static const char *value_of(const char *argument, const char *name) {
  size_t length = strlen(name);
  if (strncmp(argument, "--", 2) || strncmp(argument + 2, name, length) ||
      argument[2 + length] != '=') {
    return NULL;
  }
  return argument + 3 + length;
}

static bool read_one(const char *argument, Arguments *arguments,
                     bool *has_count) {
  const char *value;
  int64_t number;
  if ((value = value_of(argument, "out"))) {
    if (!*value) return refuse("out", "the name of a file", value);
    arguments->out = value;
  } else if ((value = value_of(argument, "sampler"))) {
    arguments->sampler = value;
  } else if ((value = value_of(argument, "seed"))) {
    return read_number_of("seed", value, 0, INT64_MAX, &arguments->seed);
  } else if ((value = value_of(argument, "steps"))) {
    if (!read_number_of("steps", value, 1, INT32_MAX, &number)) return false;
    arguments->num_steps = (int32_t)number;
  } else if ((value = value_of(argument, "count"))) {
    if (!read_number_of("count", value, 1, MOST_IMAGES, &number)) return false;
    arguments->num_images = (int32_t)number;
    *has_count = true;
  } else if ((value = value_of(argument, "labels"))) {
    return read_labels(value, arguments);
  } else if ((value = value_of(argument, "guidance"))) {
    return read_guidance(value, arguments);
  } else if (*argument != '-' && !arguments->model) {
    arguments->model = argument;
  } else {
    fprintf(stderr, "generate: unknown argument. Received: %s\n%s", argument,
            USAGE);
    return false;
  }
  return true;
}

bool read_arguments(int argc, char **argv, Arguments *arguments) {
  *arguments = (Arguments){.out = "images.ppm",
                           .sampler = "ddim",
                           .num_steps = 20,
                           .num_images = 1,
                           .guidance_scale = 1.0f};
  bool has_count = false;
  for (int i = 1; i < argc; i++) {
    if (!read_one(argv[i], arguments, &has_count)) return false;
  }
  if (!arguments->model) {
    fprintf(stderr, "generate: which model? Pass the folder saved_model.\n%s",
            USAGE);
    return false;
  }
  if (has_count && arguments->has_labels) {
    fputs("generate: each label makes one image. Received: --labels and "
          "--count; leave one out.\n",
          stderr);
    return false;
  }
  return true;
}
