//! Every limit of the engine, each with the reason for its value. Nothing else may hard-code one.

/// Bytes of one checksummed block of a sealed file. A first touch reads and hashes one block: 64 KiB costs a few
/// microseconds, and a table of 8 bytes a block stays at 0.01% of the file.
pub const BLOCK_SIZE_BYTES: u32 = 64 * 1024;

/// Alignment of every section in a sealed file: one cache line, and the widest vector register.
pub const SECTION_ALIGNMENT_BYTES: u64 = 64;

/// Bytes of every write to a sealed file but the last. Such a write can become one huge page of the file cache, so that a
/// mapped file needs a five hundredth of the page tables: a walk over a graph, which reads rows here and there, took a tenth
/// less time (Linux 6.18, ext4). Larger writes become larger pieces of the cache, which are mapped by small pages again.
pub const WRITE_UNIT_BYTES: usize = 2 * 1024 * 1024;

/// Sections a sealed file may have. The footer is of fixed size so that opening a file reads the same number of
/// bytes whatever the number of rows.
pub const SECTIONS_MAX: usize = 16;

/// Rows of one segment. Row numbers are 32 bits wide; the highest value is kept free as a mark.
pub const SEGMENT_ROWS_MAX: u32 = u32::MAX - 1;

/// Bytes of a key in UTF-8. Keys are compared whenever scores tie and are held in memory for the rows of one batch.
pub const KEY_BYTES_MAX: usize = 1024;

/// Bytes of one row's text. A row is one training example, not a file; 16 MiB also bounds a batch's memory.
pub const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of one input line (JSONL, CSV record): a text, its metadata and a vector written in decimal.
pub const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Values of one input line: a parsed JSON value takes up to 40 times the bytes of its text, so that a line of commas
/// and digits could otherwise ask for gigabytes. Sixteen times the widest embedding.
pub const LINE_VALUES_MAX: usize = 1024 * 1024;

/// Rows of a Parquet file that are decoded at once: a decoder's start-up costs are spread over them, and they are few
/// beside a commit.
pub const COLUMNAR_BATCH_ROWS: usize = 1024;

/// Bytes of a Parquet file, decoded, that are wanted in memory at once: of wide rows fewer are decoded together.
pub const COLUMNAR_BATCH_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes of one record batch or page, decompressed. Their writers choose the size; a gibibyte is a thousand times what
/// they choose by default, and still fits the memory of a small machine.
pub const COLUMNAR_DECOMPRESSED_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Bytes that compressed bytes may claim to become, however few they are: pages of 1 MiB with nothing but zeros shrink
/// to a dozen bytes.
pub const COLUMNAR_CLAIM_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// Times its own size that a longer compressed buffer may claim to become: a zstd block of 4 bytes stands for 128 KiB.
pub const COLUMNAR_EXPANSION_MAX: u64 = 32 * 1024;

/// Bytes of the metadata of a Parquet or Arrow file, and of one message of it. It is parsed whole, and grows by a small
/// factor.
pub const COLUMNAR_METADATA_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bytes of the header of a Parquet page: a few numbers and the least and greatest value of the page.
pub const PARQUET_PAGE_HEADER_BYTES_MAX: u64 = 1024 * 1024;

/// Elements of one list in the metadata of a Parquet file: columns of a row group, or parts of the schema. Room for all
/// of them is reserved at once.
pub const PARQUET_LIST_ELEMENTS_MAX: u64 = 1024 * 1024;

/// Nesting of the types of a Parquet file, and of its metadata: both are read by functions that call themselves.
pub const PARQUET_DEPTH_MAX: usize = 64;

/// Bytes of a JSON file of a dataset folder. It names data files and fields.
pub const DATASET_DESCRIPTION_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Bytes of the header of an npy file. It names one type and one shape; NumPy itself refuses above 10,000.
pub const NPY_HEADER_BYTES_MAX: usize = 10_000;

/// Bytes of the header of a safetensors file with vectors: a few tensors, and perhaps a million short keys as
/// metadata. It is parsed whole.
pub const TENSOR_HEADER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of a field or column name.
pub const NAME_BYTES_MAX: usize = 64;

/// Declared metadata fields of a store. Each costs an Arrow array per segment.
pub const FIELDS_MAX: usize = 256;

/// Embedding and sketch columns of a store. Each costs an open file per segment.
pub const COLUMNS_MAX: usize = 64;

/// Values of one embedding. Above this an exact scan no longer fits its block plan.
pub const EMBEDDING_WIDTH_MAX: usize = 65_536;

/// Values of one sketch row, all modules laid end to end.
pub const SKETCH_WIDTH_MAX: usize = 16 * 1024 * 1024;

/// Members (checkpoints) of a sketch column: ten runs with several checkpoints each, and room above that.
pub const SKETCH_MEMBERS_MAX: u32 = 256;

/// Parameters that a curvature may have a whole matrix over: one of 128 MiB for each member.
pub const PRIMAL_PARAMETERS_MAX: u64 = 4096;

/// Values of a module's side that a curvature may have eigenvectors over: a matrix of 128 MiB, and some seconds for each.
pub const KRONECKER_SIDE_MAX: usize = 4096;

/// Rows that a curvature may have a whole matrix over: one of 128 MiB in memory for each member while it is fitted.
pub const DUAL_ROWS_MAX: u64 = 4000;

/// Landmarks that stand for more rows than that: measured to lose nothing of the agreement with retraining.
pub const LANDMARKS_DEFAULT: usize = 1000;

/// Coordinates of a row's codes at most: as many as landmarks tell by default, and some.
pub const CODE_COORDINATES_MAX: usize = 1024;

/// Bytes of a sketch schema: some hundred for each module. It stands in the catalog and in every manifest.
pub const SKETCH_SCHEMA_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Modules of a sketch schema. Large language models have a few thousand linear layers.
pub const SKETCH_MODULES_MAX: usize = 16_384;

/// Rows that an answer may hold at each end. An answer is for reading; `score` writes whole matrices.
pub const ANSWER_ROWS_MAX: usize = 100_000;

/// Rows that hybrid scores look at unless told otherwise.
pub const HYBRID_CANDIDATES_DEFAULT: usize = 500;

/// Rows an ingest commits at once unless told otherwise: one fsync round and one segment for each commit.
pub const COMMIT_ROWS_DEFAULT: usize = 10_000;

/// Bytes of texts, vectors and fields that an ingest holds before it commits early, whatever the number of rows. Four
/// commits may be under way at a time: read, made ready, encoded, written.
pub const COMMIT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Time after which rows of a pipe are committed unless told otherwise: short enough for an input that pauses, long
/// enough that the fsync round and the segment of a commit do not count.
pub const PIPE_COMMIT_EVERY_MS: u64 = 2_000;

/// Rows of the first commits where a learned encoder works and commits are made by time: it may need milliseconds a row,
/// and its pace is known only afterwards.
pub const COMMIT_ROWS_UNPACED: usize = 256;

/// Documents that the reading thread of an ingest may be ahead: enough to hide the wake-ups of a thread.
pub const READ_AHEAD_DOCUMENTS: usize = 4096;

/// Bytes that it may be ahead: long documents must not add up to gigabytes. One document may always wait.
pub const READ_AHEAD_BYTES: usize = 16 * 1024 * 1024;

/// Tokens of one encoding task on the processor, padding included: 8 texts of 128 tokens. Enough rows for a matrix
/// product to run at full speed; short enough that a query, which shares the threads, waits some tens of milliseconds.
pub const ENCODE_TASK_TOKENS: usize = 8 * 128;

/// Tokens of one encoding task on a GPU, which is only busy with many at once; the activations of this many take some
/// hundred MiB of its memory.
pub const ENCODE_TASK_TOKENS_GPU: usize = 256 * 128;

/// Texts that are made ready or encoded in one go outside an ingest: their tokens and vectors are held meanwhile.
pub const ENCODE_BLOCK_TEXTS: usize = 4096;

/// Texts of an encoding task that may be asked for.
pub const BATCH_TEXTS_MAX: u32 = 65_536;

/// Documents from which the hashed encoder estimates term weights, at most: the first ingest is held in memory
/// until then, and weights move little beyond a few thousand documents.
pub const HASHED_FIT_DOCUMENTS_MAX: usize = 20_000;

/// Values of a hashed encoder's vector, at least: each feature touches eight coordinates.
pub const HASHED_WIDTH_MIN: usize = 8;

/// Values of a hashed encoder's vector, at most: 64 bits of hash no longer tell much more apart, and bytes a row grow.
pub const HASHED_WIDTH_MAX: usize = 4096;

/// Values of a hashed encoder's vector unless told otherwise: cosines are off by about 1 / sqrt(256) = 0.06.
pub const HASHED_WIDTH_DEFAULT: usize = 256;

/// Buckets in which the hashed encoder counts documents, a power of two. 20,000 short texts have some hundred thousand
/// different features, so that a bucket is rarely shared, and a fit holds 4 MiB.
pub const HASHED_BUCKETS: u32 = 1 << 20;

/// Characters of a text that the hashed encoder looks at. More hardly moves a vector that is normalised anyway; the
/// features of this many take 20 MiB.
pub const HASHED_TEXT_CHARACTERS_MAX: usize = 256 * 1024;

/// Bytes of one catalog value or of the body of a manifest: the state of some hundred thousand segments, or the
/// deletes of a billion rows.
pub const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes that decoding one may claim: values are wider in memory than in the file, by less than this factor of four.
pub const RECORD_DECODED_BYTES_MAX: usize = 4 * RECORD_BYTES_MAX;

/// Bytes of a manifest. It is read whole; the limit keeps a damaged length from asking for more.
pub const MANIFEST_BYTES_MAX: u64 = RECORD_BYTES_MAX as u64 + 4096;

/// Bytes that redb may cache. The catalog is small and read once at open; redb's own default is 1 GiB.
pub const CATALOG_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Commits whose description stays in the catalog's history.
pub const HISTORY_COMMITS_MAX: u64 = 10_000;

/// Rows that one scan task scores: long enough to hide scheduling, short enough for two threads to share evenly.
/// Fixed, so that sums taken chunk by chunk do not depend on the number of threads.
pub const SCAN_CHUNK_ROWS: u32 = 1024;

/// Bytes of stored values that a scan hands to the kernels at once: a quarter of a small second-level cache (512 KiB), so
/// that a second pass over them, for norms, does not go to memory again.
pub const SCAN_BLOCK_BYTES: usize = 128 * 1024;

/// Rows from which a segment gets an index unless told otherwise. Scanning the values of fewer takes less than a tenth of a
/// millisecond; but commits of a thousand rows, twenty of which may wait to be merged, would double the time of a query.
pub const INDEX_ROWS_MIN: u32 = 512;

/// Rows from which sums of a segment's gradients are kept unless told otherwise. Adding up fewer takes no longer than syncing a
/// file does.
pub const SUMS_ROWS_MIN: u32 = 512;

/// Segments from which the background merges a run of them: each row is then written again once in every fourfold growth
/// of its segment at most, and few segments are left to look at.
pub const COMPACTION_SEGMENTS_MIN: usize = 4;

/// Rows from which it does so; below, segments cost a query less than a merge costs.
pub const COMPACTION_ROWS_MIN: u64 = 8192;

/// Segments of which it merges any, however few rows they have: each is a file to open and a key index to look into.
pub const COMPACTION_SEGMENTS_SMALL: usize = 16;

/// Rows that a merged segment may have: six gigabytes of vectors of 384 values, and an hour to build a graph over them.
pub const COMPACTION_ROWS_MAX: u64 = 4 * 1024 * 1024;

/// Bytes from which a segment that nobody holds any more is let go on a thread of its own: smaller ones have few pages to
/// give back, and most stores never need the thread.
pub const RETIRED_BYTES_MIN: u64 = 1024 * 1024;

/// Deleted rows from which a segment is written anew alone, if they are a quarter of it.
pub const COMPACTION_DELETED_ROWS_MIN: u64 = 1024;

/// Rows from which a segment gets a graph unless told otherwise: up to here a scan of the codes answers both ends exactly in
/// a few milliseconds.
pub const GRAPH_ROWS_MIN: u32 = 100_000;

/// Measured recall below which a graph is not walked: one row in twenty would be missed.
pub const GRAPH_RECALL_FLOOR: f64 = 0.95;

/// Rows that a walk scores for each row of its beam, about: most of the links of a row lead to rows that were scored before. Of
/// sentences and of clustered rows 19 at a beam of 32, 11 to 13 at one of 166.
pub const GRAPH_ROWS_A_BEAM: u64 = 16;

/// Rows from which coarse codes are looked at first: of fewer, the 8-bit codes stay in a near cache.
pub const COARSE_ROWS_MIN: u32 = 4096;

/// Part of the rows that coarse codes may leave to be scored again, as far as that can be told before: above, memory gives
/// these rows, which it is asked for in no order, later than all 8-bit codes one after the other.
pub const COARSE_LEFT_MAX: f64 = 0.0625;

/// Rows from which a segment is not scanned where a filter leaves few: below, a scan takes less than a millisecond, and tells
/// percentiles.
pub const PREFILTER_ROWS_MIN: u32 = 16_384;

/// What it costs to score a row on a walk, in rows of a scan: rows come from memory in no order.
pub const GRAPH_ROW_COST: u64 = 4;

/// Rows that mean and deviation are estimated from where not all rows are scored: the deviation is off by about 4%, and a
/// query takes some microseconds longer.
pub const SAMPLE_ROWS: usize = 256;

/// Rows of a column with a graph: a walk keeps a mark beside the 31 bits of a row number.
pub const GRAPH_ROWS_MAX: u32 = u32::MAX / 2;

/// Links of a row of a graph on the levels above the base, M of the method. More links make a walk slower and the graph
/// larger; at 16 the recall of embeddings a few hundred values wide no longer gains.
pub const GRAPH_UPPER_LINKS: u32 = 16;

/// Links of a row on the base level: twice those above, as the method says.
pub const GRAPH_BASE_LINKS: u32 = 2 * GRAPH_UPPER_LINKS;

/// Links of a row that a reader accepts: what a walk holds in memory of one row.
pub const GRAPH_LINKS_MAX: u32 = 256;

/// Levels above the base. One row in sixteen reaches the next level: 2^32 rows need eight.
pub const GRAPH_LEVELS_MAX: usize = 16;

/// Rows that building looks at to choose the links of one row. With half as many recall falls at every beam, with twice as
/// many building takes twice the time for little.
pub const GRAPH_BUILD_BEAM: usize = 200;

/// Rows are put into a graph in batches that do not see each other, one row for this many that are there: then at most
/// one of fifty of a row's best neighbours is missed, and the graph is the same with any number of threads.
pub const GRAPH_BATCH_PART: usize = 50;

/// Values of rows that a thread puts into a graph before it looks up: 4 rows of 384 values take a millisecond or two, for
/// which a query that shares the threads waits.
pub const GRAPH_SLICE_VALUES: usize = 4 * 384;

/// One row in this many, those of largest norm, is scored by every walk instead of standing in the graph: the square of
/// their norm would swallow the distances between all others.
pub const GRAPH_SCANNED_PART: u32 = 100;

/// Rows scored by every walk at most: about what a walk itself scores.
pub const GRAPH_SCANNED_ROWS_MAX: u32 = 4096;

/// Where the largest and the least norm differ by less than this part, rows count as of one norm: rounding to f16 does not
/// part them, and no row has to be set apart.
pub const GRAPH_NORM_TOLERANCE: f32 = 1e-3;

/// Rows that are kept from a graph while its recall is measured with them as questions. A hundred times ten answers give
/// recall to three digits.
pub const GRAPH_HELD_OUT_ROWS: usize = 100;

/// Beams at which recall is measured. Above the last a scan of the codes is faster.
pub const GRAPH_BEAMS: [u32; 15] = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048];

/// Rows that a walk by coarse codes keeps for each that it follows: the error of coarse codes leaves some of the best behind the
/// beam. Of 300,000 clustered rows a beam of 100 then finds .997 of the 100 best instead of .851, with 1.5 times as many .978, with
/// three times as many .998.
pub const GRAPH_COARSE_KEPT: usize = 2;

/// Recall that the measured beam of a graph reaches, if any does.
pub const GRAPH_RECALL_WANTED: f64 = 0.99;

/// Rows among which the repair of a graph looks for one that can link to a row that no walk would reach.
pub const GRAPH_REPAIR_BEAM: usize = 64;

/// Times that a walk with a filter may widen its beam, so that rows that pass are left of it. A scan of the rows that pass a
/// more selective filter is faster.
pub const GRAPH_FILTER_WIDENING_MAX: usize = 8;

/// Rows of codes that a thread compares with held-out rows before it looks up.
pub const GRAPH_MEASURE_ROWS: u32 = 1024;

/// Candidates that one task of a scan scores exactly: at some hundred nanoseconds each, enough to hide scheduling.
pub const RESCORE_ROWS: usize = 64;

/// Bytes of scores that are kept between queries: those of two queries of a million rows.
pub const SCORE_BUFFERS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Characters of a filter expression.
pub const FILTER_CHARACTERS_MAX: usize = 64 * 1024;

/// Nesting of a filter expression: the evaluator recurses.
pub const FILTER_DEPTH_MAX: usize = 100;

/// Characters of a LIKE pattern. Matching a pattern with `_` costs at most pattern times text.
pub const FILTER_PATTERN_CHARACTERS_MAX: usize = 1024;

/// Rows that a filter looks at in one go: its bitmaps then take 4 KiB a nesting level and stay in the nearest cache,
/// whatever the segment's size. A multiple of 64, the rows of one bitmap word.
pub const FILTER_CHUNK_ROWS: usize = 16 * 1024;

/// Rows that an import puts into one segment. Keys and texts of a segment are gathered in memory; few large segments
/// answer faster than many small ones.
pub const IMPORT_SEGMENT_ROWS_MAX: usize = 1_000_000;

/// Questions that recall is measured with: the interval of ten thousand is a few thousandths wide, and that of ten times
/// as many is still resampled within seconds.
pub const RECALL_QUERIES_MAX: usize = 100_000;

/// Threads that may be asked for. More than any machine this runs on; each costs a stack.
pub const THREADS_MAX: u16 = 1024;

/// Bytes of a catalog that a child process is given to check: the records of the largest manifest, their copies of the
/// commit before (pages are copied when they change), and as much again for pages that are partly filled.
pub const CATALOG_BYTES_MAX: u64 = 4 * MANIFEST_BYTES_MAX;

/// Bytes of one JSON file of an encoder directory, its tokenizer included: vocabularies of a quarter million tokens take
/// less than 8 MiB. Parsed, JSON takes up to 40 times its bytes.
pub const BERT_JSON_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Layers of a BERT encoder: the largest published has 24.
pub const BERT_LAYERS_MAX: usize = 128;

/// Values of a token inside a BERT encoder: the largest published has 1,024.
pub const BERT_HIDDEN_SIZE_MAX: usize = 16 * 1024;

/// Values of a token between the two halves of a feed-forward layer: four times the others in every published model.
pub const BERT_INTERMEDIATE_SIZE_MAX: usize = 4 * BERT_HIDDEN_SIZE_MAX;

/// Tokens of a vocabulary: the largest published has a quarter million.
pub const BERT_VOCABULARY_SIZE_MAX: usize = 1024 * 1024;

/// Tokens of a text that an encoder may be built for. Attention costs the square of it: at 8,192 one text and one head
/// take 256 MiB of scores.
pub const BERT_POSITIONS_MAX: usize = 8192;

/// Tokens of a text, at least: what stands at both ends, and one between.
pub const BERT_POSITIONS_MIN: usize = 3;

/// Kinds of segments of a text; encoders of sentences use the first of usually two.
pub const BERT_TOKEN_TYPES_MAX: usize = 64;

/// Characters of a word that are looked up piece by piece; a longer one counts as unknown. The time grows with the
/// square, and every published tokenizer says 100.
pub const BERT_WORD_CHARACTERS_MAX: usize = 1000;

/// Classes of a classification head. A row's Jacobian has classes x hidden units: at the default 64 units 1 MiB.
pub const HEAD_CLASSES_MAX: usize = 4096;

/// Hidden units of a classification head: thousands learn nothing more from an embedding, and cost time in every one of
/// hundreds of trainings.
pub const HEAD_HIDDEN_MAX: usize = 8192;

/// Epochs of one training of a head: a mistyped number is to be an error, not a week of work.
pub const HEAD_EPOCHS_MAX: usize = 10_000;

/// Trainings of one measurement of the truth: a week of them, at half a second each.
pub const TRUTH_TRAININGS_MAX: usize = 1_000_000;
