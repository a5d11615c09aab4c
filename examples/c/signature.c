#include "signature.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SIGNATURE_DEF = 5, KEY = 1, VALUE = 2, TENSOR_NAME = 1 };
/* How protocol buffers store a field. */
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

typedef struct {
  const uint8_t *data;
  size_t length;
} Bytes;

static bool skip(Bytes *bytes, uint64_t length) {
  if (length > bytes->length) return false;
  bytes->data += length;
  bytes->length -= length;
  return true;
}

static bool read_varint(Bytes *bytes, uint64_t *value) {
  *value = 0;
  for (int shift = 0; shift < 64 && bytes->length; shift += 7) {
    uint8_t byte = *bytes->data;
    skip(bytes, 1);
    *value |= (uint64_t)(byte & 0x7f) << shift;
    if (!(byte & 0x80)) return true;
  }
  return false;
}

/* Goes on to the next field `number` of a message and takes its bytes. */
static bool next_field(Bytes *message, unsigned number, Bytes *content) {
  uint64_t tag, value;
  while (read_varint(message, &tag)) {
    switch (tag & 7) {
      case VARINT:
        if (!read_varint(message, &value)) return false;
        break;
      case FIXED64:
        if (!skip(message, 8)) return false;
        break;
      case FIXED32:
        if (!skip(message, 4)) return false;
        break;
      case BYTES:
        if (!read_varint(message, &value)) return false;
        *content = (Bytes){message->data, value};
        if (!skip(message, value)) return false;
        if (tag >> 3 == number) return true;
        break;
      default:
        return false;
    }
  }
  return false;
}

/* The value of a key in a map, which is a repeated message of both. */
static bool look_up(Bytes message, unsigned map, const char *key,
                    Bytes *value) {
  Bytes entry;
  while (next_field(&message, map, &entry)) {
    Bytes rest = entry, found;
    if (next_field(&rest, KEY, &found) && found.length == strlen(key) &&
        !memcmp(found.data, key, found.length)) {
      return next_field(&entry, VALUE, value);
    }
  }
  return false;
}

bool find_tensor(TF_Graph *graph, const TF_Buffer *meta_graph,
                 const char *signature, int direction, const char *name,
                 TF_Output *tensor) {
  Bytes message = {meta_graph->data, meta_graph->length};
  Bytes definition, info, path;
  if (!look_up(message, SIGNATURE_DEF, signature, &definition) ||
      !look_up(definition, (unsigned)direction, name, &info) ||
      !next_field(&info, TENSOR_NAME, &path)) {
    return false;
  }
  char *operation = malloc(path.length + 1);
  if (!operation) return false;
  memcpy(operation, path.data, path.length);
  operation[path.length] = '\0';
  char *colon = strrchr(operation, ':');
  if (colon) *colon = '\0';
  tensor->oper = TF_GraphOperationByName(graph, operation);
  tensor->index = colon ? atoi(colon + 1) : 0;
  free(operation);
  return tensor->oper != NULL;
}
