# R DESeq2 in a process of its own, told what to do as worker.py is
start <- proc.time()[["elapsed"]]
suppressMessages({ library(DESeq2); library(jsonlite) })
answer <- function(values) { cat(toJSON(values, auto_unbox = TRUE), "\n", sep = ""); flush(stdout()) }
answer(list(wall = proc.time()[["elapsed"]] - start, version = as.character(packageVersion("DESeq2"))))
input <- file("stdin", open = "r")
while (length(line <- readLines(input, 1)) > 0) {
  words <- strsplit(line, "\t")[[1]]
  if (words[1] == "load") {
    task <- fromJSON(file.path(words[2], "task.json"))
    settings <- fromJSON(words[3])
    samples <- read.csv(file.path(words[2], "samples.csv"), row.names = 1)
    for (name in names(task$levels)) samples[[name]] <- factor(samples[[name]], task$levels[[name]])
    counts <- readBin(file.path(words[2], "counts.bin"), "integer", prod(task$shape))
    counts <- matrix(counts, nrow = task$shape[2], dimnames = list(paste0("g", seq_len(task$shape[2])), rownames(samples)))
    answer(list(loaded = TRUE))
  } else if (words[1] == "make") {
    answer(list(made = TRUE))
  } else {
    start <- proc.time()[["elapsed"]]
    dds <- DESeqDataSetFromMatrix(counts, samples, as.formula(task$design))
    dds <- do.call(DESeq, c(list(dds, quiet = TRUE), settings))
    found <- results(dds, contrast = task$contrast)
    wall <- proc.time()[["elapsed"]] - start
    writeBin(found$pvalue, words[2])
    answer(list(wall = wall))
  }
}
